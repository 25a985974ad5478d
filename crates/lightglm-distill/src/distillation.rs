//! `Distillation`: the objective of a student.

use std::sync::Arc;

use burn::tensor::Tensor;
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_kernels::{LmBackend, RowLoss};

use crate::divergence::Divergence;
use crate::error::DistillError;
use crate::teacher::{Teacher, refused};
use crate::teacher_rows::{TeacherRows, check_temperature};

/// `weight T^2 D(teacher, student) + (1 - weight) cross-entropy`, summed over all labelled rows.
///
/// `T^2` keeps gradients at their size whatever the temperature. With the model before quantization as the teacher,
/// this is the objective of quantization-aware distillation.
///
/// Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2; Liu et al.
/// 2023, "LLM-QAT".
#[derive(Clone, Debug)]
pub struct Distillation<T> {
    teacher: T,
    divergence: Divergence,
    weight: f64,
    temperature: f64,
}

impl<T: Teacher> Distillation<T> {
    /// Towards `teacher` alone, at temperature 1.
    pub fn new(teacher: T, divergence: Divergence) -> Self {
        Self { teacher, divergence, weight: 1.0, temperature: 1.0 }
    }

    /// With `weight` of the divergence, and the rest of the words that the rows have.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// With both distributions at this temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Says what is wrong with the settings, before a student is trained in vain.
    ///
    /// # Errors
    /// [`DistillError::Setting`].
    pub fn check(&self) -> Result<(), DistillError> {
        self.divergence.check()?;
        check_temperature(self.temperature)?;
        match (0.0..=1.0).contains(&self.weight) {
            true => Ok(()),
            false => Err(DistillError::Setting {
                setting: "weight",
                value: self.weight,
                expected: "it must be 0 to 1",
            }),
        }
    }
}

impl<B: LmBackend, T: Teacher> Objective<B> for Distillation<T> {
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        self.check().map_err(|error| refused(&error))?;
        let targets: Vec<u32> =
            batch.iter().flat_map(|span| span.targets).flatten().copied().collect();
        let mut parts = Vec::with_capacity(2);
        if self.weight > 0.0 {
            let teacher = self.teacher.rows(batch)?;
            let [rows, vocab_size] = logits.dims();
            let checked = teacher.check(rows, vocab_size, self.temperature);
            checked.map_err(|error| refused(&error))?;
            let (divergence, temperature) = (self.divergence, self.temperature);
            let rows: Arc<dyn RowLoss> = Arc::new(Rows { teacher, divergence, temperature });
            let factor = self.weight * temperature * temperature;
            parts.push(B::row_losses(logits.clone(), &rows).sum() * factor);
        }
        if self.weight < 1.0 {
            parts.push(B::cross_entropy(logits, &targets).sum() * (1.0 - self.weight));
        }
        let sum = parts.into_iter().reduce(|a, b| a + b);
        Ok(sum.expect("one of the weights is positive"))
    }
}

/// The divergence of each row.
#[derive(Debug)]
struct Rows {
    teacher: TeacherRows,
    divergence: Divergence,
    temperature: f64,
}

impl RowLoss for Rows {
    fn loss(&self, row: usize, logits: &[f32]) -> f32 {
        self.divergence.row_loss(self.teacher.row(row), logits, self.temperature)
    }

    fn write_gradient(&self, row: usize, logits: &[f32], scale: f32, gradient: &mut [f32]) {
        let (teacher, temperature) = (self.teacher.row(row), self.temperature);
        self.divergence.write_row_gradient(teacher, logits, temperature, scale, gradient);
    }
}
