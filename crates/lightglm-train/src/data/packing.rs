//! `pack`: sequences of different lengths in batches of about as many tokens each.
//!
//! A batch is a list of sequences, not one long sequence: the decoder takes packed spans, and each
//! attends to itself alone, so nothing leaks from one conversation into the next, and no padding is
//! computed.
//!
//! Source: first fit and first fit decreasing, Johnson et al. 1974, "Worst-Case Performance Bounds
//! for Simple One-Dimensional Packing Algorithms"; first fit needs at most 1.7 times as many batches
//! as are possible, decreasing 11/9.

/// In which order sequences look for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackOrder {
    /// As they come: batches follow the given order but for the sequences that fill gaps.
    #[default]
    Given,
    /// The longest first: fewer batches, but each has neighbours of about its own length, so shuffle
    /// the batches.
    Decreasing,
}

/// Why sequences could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A sequence that fits no batch. It is refused rather than given a batch of its own: the budget
    /// is what memory allows.
    #[error("sequence {index} has {length} tokens, a batch {budget}")]
    TooLong {
        /// The sequence.
        index: usize,
        /// Its tokens.
        length: usize,
        /// Tokens of a batch.
        budget: usize,
    },
}

/// Packs sequences of `lengths` tokens into batches of at most `budget` tokens by first fit: each
/// goes into the first batch that has room.
///
/// A batch is a list of indices into `lengths`, ascending; batches are in the order of their first
/// indices. The same lengths give the same batches. It takes `O(n log n)` time.
///
/// # Errors
/// [`PackError::TooLong`], for the first sequence above the budget.
pub fn pack(
    lengths: &[usize],
    budget: usize,
    order: PackOrder,
) -> Result<Vec<Vec<usize>>, PackError> {
    if let Some(index) = lengths.iter().position(|length| *length > budget) {
        return Err(PackError::TooLong { index, length: lengths[index], budget });
    }
    let mut indices: Vec<usize> = (0..lengths.len()).collect();
    if order == PackOrder::Decreasing {
        // Stable: equal lengths stay in their order.
        indices.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    }
    let mut room = Room::new(lengths.len(), budget);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in indices {
        let batch = room.take(lengths[index]);
        if batch == batches.len() {
            batches.push(Vec::new());
        }
        batches[batch].push(index);
    }
    if order == PackOrder::Decreasing {
        batches.iter_mut().for_each(|batch| batch.sort_unstable());
        batches.sort_unstable();
    }
    Ok(batches)
}

/// What is left of each batch: a binary tree whose leaves are the batches (those not yet begun have
/// the whole budget) and whose inner nodes have the larger of their children.
struct Room {
    /// The root is at 1, the children of `i` at `2i` and `2i + 1`.
    tree: Vec<usize>,
    leaves: usize,
}

impl Room {
    /// As many batches as can be needed.
    fn new(batches: usize, budget: usize) -> Self {
        let leaves = batches.max(1).next_power_of_two();
        Self { tree: vec![budget; 2 * leaves], leaves }
    }

    /// Takes `length`, at most the budget, from the first batch that has as much, and returns which
    /// it is. There is one as long as there are no more sequences than batches.
    fn take(&mut self, length: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            node += usize::from(self.tree[node] < length);
        }
        let batch = node - self.leaves;
        self.tree[node] -= length;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
        batch
    }
}
