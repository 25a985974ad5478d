//! What attention relates in a batch as a part of a student's loss.
//!
//! Shapes: `T` tokens of all spans, `W` the student's width, `A` relation heads, `w = W / A`.

use std::sync::Arc;

use burn::tensor::Tensor;
use lightglm_core::LmError;
use lightglm_kernels::{LmBackend, RowLoss};

use crate::matching::relations::{Relations, Spans};
use crate::matching::states::StateRows;
use crate::teacher::refused;

/// The weighted sum over a batch, a mean over the heads: `student: [T, W]`.
pub(super) fn relation_term<B: LmBackend>(
    relations: Relations,
    student: Tensor<B, 2>,
    teacher: &StateRows,
    spans: Spans,
) -> Result<Tensor<B, 1>, LmError> {
    let ([tokens, width], heads) = (student.dims(), relations.heads);
    let checked = teacher.check(tokens).and_then(|()| relations.check(teacher.width()));
    checked.and_then(|()| relations.check(width)).map_err(|error| refused(&error))?;
    // A head is a row, `[T, w]`, so that several are worked on at once.
    let student = student.reshape([tokens, heads, width / heads]).swap_dims(0, 1);
    let student = student.reshape([heads, tokens * (width / heads)]);
    let teacher = (0..heads).map(|a| relations.head(teacher, a)).collect();
    let rows: Arc<dyn RowLoss> = Arc::new(Heads { teacher, spans });
    Ok(B::row_losses(student, &rows).sum() / heads as f64)
}

/// Every relation head is a row.
#[derive(Debug)]
struct Heads {
    /// `[T, w]` of each head.
    teacher: Vec<Vec<f32>>,
    spans: Spans,
}

impl RowLoss for Heads {
    fn loss(&self, head: usize, student: &[f32]) -> f32 {
        self.spans.loss(&self.teacher[head], student) as f32
    }

    fn write_gradient(&self, head: usize, student: &[f32], scale: f32, gradient: &mut [f32]) {
        self.spans.write_gradient(&self.teacher[head], student, scale, gradient);
    }
}
