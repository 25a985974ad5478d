//! `shuffle`, `epoch_order`: orders that a seed decides, the same on every machine.
//!
//! Source: Fisher-Yates as in Knuth, "The Art of Computer Programming", volume 2, algorithm P, with
//! ChaCha8 (`rand_chacha`), whose output is the same on every platform and in every version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a seed is used for: each purpose has a stream of its own, so that a split and the first
/// epoch's order, say, are independent. Epochs have the streams from 0 on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Epoch(u64),
    Shuffle,
    Split,
    Draw,
}

/// Choices that a seed decides.
pub(super) struct Seeded(ChaCha8Rng);

impl Seeded {
    pub(super) fn new(seed: u64, purpose: Purpose) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(match purpose {
            Purpose::Epoch(epoch) => epoch,
            Purpose::Shuffle => u64::MAX,
            Purpose::Split => u64::MAX - 1,
            Purpose::Draw => u64::MAX - 2,
        });
        Self(random)
    }

    /// A number below `bound`, which must not be zero.
    fn below(&mut self, bound: usize) -> usize {
        // The upper half of a product is uniform up to bound / 2^64, and has no loop.
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Puts `items` in an order that `seed` decides.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    Seeded::new(seed, Purpose::Shuffle).shuffle(items);
}

/// The order in which epoch `epoch` (counting from 0) goes through `len` examples: each of `0..len`
/// once. A run that resumes computes it again from the same three numbers.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    Seeded::new(seed, Purpose::Epoch(epoch)).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever changes these numbers breaks the runs that are to be resumed.
    #[test]
    fn orders_are_for_ever() {
        assert_eq!(epoch_order(10, 1, 0), [2, 7, 8, 5, 3, 6, 1, 9, 0, 4]);
        assert_eq!(epoch_order(10, 1, 1), [6, 7, 2, 3, 1, 5, 9, 4, 0, 8]);
        let mut letters: Vec<char> = ('a'..='j').collect();
        shuffle(&mut letters, 1);
        assert_eq!(String::from_iter(letters), "ebcafjhgid");
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..12_000 {
            *counts.entry(epoch_order(4, seed, 3)).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // 500 expected, standard deviation 22: five of them.
        assert!(counts.values().all(|count| count.abs_diff(500) < 110), "{counts:?}");
    }
}
