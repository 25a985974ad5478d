//! `RowLoss`: a loss of each row of logits that knows its own derivative.

use std::fmt::Debug;

/// A loss of each row of logits, with its derivative, a row at a time.
///
/// Composed of plain operations, a divergence between two distributions keeps five to ten tensors of the size of the
/// logits for its backward pass. Row by row nothing of that size is kept but the logits themselves, and the
/// backward pass writes one: the gradient.
///
/// `logits: [R, V]`, of which a call sees one row `[V]`. Rows are worked on in any order, by several threads.
pub trait RowLoss: Debug + Send + Sync {
    /// The loss of row `row`.
    fn loss(&self, row: usize, logits: &[f32]) -> f32;

    /// Writes the derivative of row `row`'s loss, times `scale`, to `gradient: [V]`.
    fn write_gradient(&self, row: usize, logits: &[f32], scale: f32, gradient: &mut [f32]);
}
