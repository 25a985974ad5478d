//! Hidden states of a batch as a part of a student's loss.
//!
//! Shapes: `T` tokens of all spans, `R` those that count, `S` the student's width, `D` the teacher's.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use lightglm_core::LmError;
use lightglm_kernels::{LmBackend, RowLoss};

use crate::error::DistillError;
use crate::matching::hidden::StateDistance;
use crate::matching::states::StateRows;
use crate::teacher::refused;

/// The weighted sum of distances over a batch: `student: [T, S]`, `projection: [D, S]`, `weights: [T]`.
pub(super) fn hidden_term<B: LmBackend>(
    distance: StateDistance,
    student: Tensor<B, 2>,
    projection: Option<Tensor<B, 2>>,
    teacher: StateRows,
    weights: &[f32],
) -> Result<Tensor<B, 1>, LmError> {
    let [tokens, _] = student.dims();
    teacher.check(tokens).map_err(|error| refused(&error))?;
    let rows: Vec<usize> = (0..tokens).filter(|&row| weights[row] != 0.0).collect();
    let student = match rows.len() == tokens {
        true => student,
        false => {
            let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
            let data = TensorData::new(indices, [rows.len()]);
            let indices = Tensor::<B, 1, Int>::from_data(data, &student.device());
            student.select(0, indices)
        }
    };
    let student = match projection {
        Some(projection) => {
            let ([_, found], [_, expected]) = (student.dims(), projection.dims());
            if found != expected {
                let error = DistillError::Width { teacher: expected, student: found };
                return Err(refused(&error));
            }
            B::project(student, projection, None)
        }
        None => student,
    };
    let [_, width] = student.dims();
    if width != teacher.width() {
        let error = DistillError::Width { teacher: teacher.width(), student: width };
        return Err(refused(&error));
    }
    let weights = rows.iter().map(|&row| weights[row]).collect();
    let rows: Arc<dyn RowLoss> = Arc::new(HiddenRows { distance, teacher, rows, weights });
    Ok(B::row_losses(student, &rows).sum())
}

/// The distance of each row that counts.
#[derive(Debug)]
struct HiddenRows {
    distance: StateDistance,
    /// `[T, D]`.
    teacher: StateRows,
    /// `[R]`.
    rows: Vec<usize>,
    /// `[R]`.
    weights: Vec<f32>,
}

impl RowLoss for HiddenRows {
    fn loss(&self, row: usize, student: &[f32]) -> f32 {
        let distance = self.distance.row_loss(self.teacher.row(self.rows[row]), student);
        (distance * f64::from(self.weights[row])) as f32
    }

    fn write_gradient(&self, row: usize, student: &[f32], scale: f32, gradient: &mut [f32]) {
        let teacher = self.teacher.row(self.rows[row]);
        let scale = f64::from(scale) * f64::from(self.weights[row]);
        self.distance.write_row_gradient(teacher, student, scale, gradient);
    }
}
