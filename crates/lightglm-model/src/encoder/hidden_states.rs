//! `HiddenStates`: the vectors of the tokens of several inputs.

use std::ops::Range;

/// The vectors of tokens: `[T, D]`, the inputs one behind the other.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    pub(super) rows: Vec<f32>,
    pub(super) hidden_size: usize,
    pub(super) ranges: Vec<Range<usize>>,
}

impl HiddenStates {
    /// `D`.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// The inputs in their order: `[T_i, D]` each, at least one row.
    pub fn inputs(&self) -> impl Iterator<Item = &[f32]> {
        let d = self.hidden_size;
        self.ranges.iter().map(move |range| &self.rows[range.start * d..range.end * d])
    }
}
