//! Losses of rows, forward and backward. Shapes: `R` rows, `V` vocab_size.

use super::super::scratch::Shared;
use super::super::team;
use super::piece;
use crate::row_loss::RowLoss;

/// The loss of each row: `logits: [R, V]`, `losses: [R]`.
///
/// # Panics
/// Where `logits` has not as many rows as `losses`.
pub fn row_losses(logits: &[f32], loss: &dyn RowLoss, losses: &mut [f32]) {
    let (r, v) = (losses.len(), width(logits.len(), losses.len()));
    let out = Shared(losses.as_mut_ptr());
    team::parallel_for(r, |row| {
        // SAFETY: only this task writes element `row`.
        let out = unsafe { piece(out, row, 1) };
        out[0] = loss.loss(row, &logits[row * v..][..v]);
    });
}

/// `dlogits[r] = grad[r] dloss[r]/dlogits[r]`: `logits, dlogits: [R, V]`, `grad: [R]`.
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn row_losses_backward(logits: &[f32], loss: &dyn RowLoss, grad: &[f32], dlogits: &mut [f32]) {
    let (r, v) = (grad.len(), width(logits.len(), grad.len()));
    assert_eq!(dlogits.len(), logits.len(), "logits and their gradient differ in length");
    let out = Shared(dlogits.as_mut_ptr());
    team::parallel_for(r, |row| {
        // SAFETY: only this task writes row `row`.
        let dlogits = unsafe { piece(out, row * v, v) };
        loss.write_gradient(row, &logits[row * v..][..v], grad[row], dlogits);
    });
}

fn width(elements: usize, rows: usize) -> usize {
    let v = elements.checked_div(rows).unwrap_or(0);
    assert_eq!(elements, rows * v, "logits do not have {rows} rows");
    v
}
