//! `StateDistance`: how far a student's hidden state is from a teacher's. Shapes: `R` rows, `D` width.

use crate::error::DistillError;
use crate::matching::states::StateRows;

/// How far a hidden state `s` of a student, brought to the teacher's width, is from the teacher's `t`.
///
/// ```text
/// loss       = mse mean((s - t)^2) + cosine (1 - s t / (|s| |t|))
/// dloss / ds = mse 2 (s - t) / D  + cosine (s (s t) / |s|^2 - t) / (|s| |t|)
/// ```
/// The mean is over the width. A state of zeros has a cosine of 0 with any, and no direction in which it grows.
///
/// Source: Jiao et al. 2020, "TinyBERT", equation 8; Sanh et al. 2019, "DistilBERT", section 3 (the cosine).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateDistance {
    /// What the mean squared error counts.
    pub mse: f64,
    /// What one minus the cosine counts: the direction alone, whatever the size.
    pub cosine: f64,
}

/// The mean squared error.
impl Default for StateDistance {
    fn default() -> Self {
        Self { mse: 1.0, cosine: 0.0 }
    }
}

impl StateDistance {
    /// Refuses weights that are none.
    ///
    /// # Errors
    /// [`DistillError::Setting`].
    pub fn check(self) -> Result<(), DistillError> {
        for (setting, value) in [("mse", self.mse), ("cosine", self.cosine)] {
            check_weight(setting, value)?;
        }
        Ok(())
    }

    /// The distance of each row, `[R]`: `student: [R, D]`.
    ///
    /// # Errors
    /// [`DistillError`] where the shapes differ.
    pub fn losses(
        self,
        teacher: &StateRows,
        student: &StateRows,
    ) -> Result<Vec<f64>, DistillError> {
        self.check_rows(teacher, student)?;
        Ok((0..teacher.len()).map(|r| self.row_loss(teacher.row(r), student.row(r))).collect())
    }

    /// The derivative of each row's distance with respect to that row of `student`: `[R, D]`.
    ///
    /// # Errors
    /// As [`Self::losses`].
    pub fn gradients(
        self,
        teacher: &StateRows,
        student: &StateRows,
    ) -> Result<Vec<f32>, DistillError> {
        self.check_rows(teacher, student)?;
        let mut gradients = vec![0.0; student.values().len()];
        for (r, gradient) in gradients.chunks_exact_mut(student.width()).enumerate() {
            self.write_row_gradient(teacher.row(r), student.row(r), 1.0, gradient);
        }
        Ok(gradients)
    }

    fn check_rows(self, teacher: &StateRows, student: &StateRows) -> Result<(), DistillError> {
        self.check()?;
        if teacher.width() != student.width() {
            let (teacher, student) = (teacher.width(), student.width());
            return Err(DistillError::Width { teacher, student });
        }
        teacher.check(student.len())
    }

    pub(super) fn row_loss(self, teacher: &[f32], student: &[f32]) -> f64 {
        let sums = Sums::of(teacher, student);
        let mse = match self.mse {
            0.0 => 0.0,
            weight => weight * sums.error / student.len().max(1) as f64,
        };
        mse + self.cosine * (1.0 - sums.cosine())
    }

    /// Writes `scale` times the derivative to `gradient: [D]`.
    pub(super) fn write_row_gradient(
        self,
        teacher: &[f32],
        student: &[f32],
        scale: f64,
        gradient: &mut [f32],
    ) {
        let sums = Sums::of(teacher, student);
        let straight = scale * self.mse * 2.0 / student.len().max(1) as f64;
        let norms = (sums.student * sums.teacher).sqrt();
        // Of the student's state and of the teacher's.
        let (own, other) = match norms > 0.0 {
            true => {
                let turn = scale * self.cosine;
                (turn * sums.cosine() / sums.student, turn / norms)
            }
            false => (0.0, 0.0),
        };
        for ((out, &t), &s) in gradient.iter_mut().zip(teacher).zip(student) {
            let (t, s) = (f64::from(t), f64::from(s));
            *out = (straight * (s - t) + own * s - other * t) as f32;
        }
    }
}

/// Refuses a weight that is none.
pub(super) fn check_weight(setting: &'static str, value: f64) -> Result<(), DistillError> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(DistillError::Setting { setting, value, expected: "it must be at least 0" }),
    }
}

/// Sums over the width of two states.
struct Sums {
    /// `|s - t|^2`.
    error: f64,
    product: f64,
    /// `|t|^2`.
    teacher: f64,
    /// `|s|^2`.
    student: f64,
}

impl Sums {
    fn of(teacher: &[f32], student: &[f32]) -> Self {
        let mut sums = Self { error: 0.0, product: 0.0, teacher: 0.0, student: 0.0 };
        for (&t, &s) in teacher.iter().zip(student) {
            let (t, s) = (f64::from(t), f64::from(s));
            sums.error += (s - t) * (s - t);
            sums.product += s * t;
            sums.teacher += t * t;
            sums.student += s * s;
        }
        sums
    }

    fn cosine(&self) -> f64 {
        let norms = (self.student * self.teacher).sqrt();
        if norms > 0.0 { self.product / norms } else { 0.0 }
    }
}
