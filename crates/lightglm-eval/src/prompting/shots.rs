//! Which examples are shown, and which questions are asked.

use crate::seeded::Seeded;

/// `count` of `items` at random (all, where there are fewer), each once; the seed decides which
/// and their order.
pub fn choose<T: Clone>(items: &[T], count: usize, seed: u64) -> Vec<T> {
    let chosen = Seeded::new(seed).choose(items.len(), count);
    chosen.into_iter().map(|index| items[index].clone()).collect()
}

/// All of `items` in the random order that the seed decides.
pub fn in_random_order<T: Clone>(items: &[T], seed: u64) -> Vec<T> {
    choose(items, items.len(), seed)
}
