//! `Divergence`: how far a student's distribution is from a teacher's.
//!
//! Each is a sum over outcomes, `D(p, q) = sum over v of f(p(v), q(v))`, `p` the teacher's and `q` the student's
//! distribution. One file each has `f` and the derivative that belongs to it.

mod forward_kl;
mod jensen_shannon;
mod reverse_kl;
mod skew_kl;
mod total_variation;

use self::forward_kl::ForwardKl;
use self::jensen_shannon::JensenShannon;
use self::reverse_kl::ReverseKl;
use self::skew_kl::{SkewKl, SkewReverseKl};
use self::total_variation::TotalVariation;
use crate::error::DistillError;
use crate::row_divergence::{Row, row_gradient, row_loss};
use crate::teacher_rows::TeacherRows;

/// How far a student's distribution `q` is from a teacher's `p`, in nats but for the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Divergence {
    /// `KL(p || q)`: the student has to cover all that the teacher may say.
    #[default]
    ForwardKl,
    /// `KL(q || p)`: the student keeps to what the teacher would say.
    ReverseKl,
    /// `beta KL(p || m) + (1 - beta) KL(q || m)` with `m = beta p + (1 - beta) q`, `0 < beta < 1`; bounded.
    JensenShannon {
        /// Towards 0 it behaves like the forward divergence, towards 1 like the reverse one.
        beta: f64,
    },
    /// `KL(p || alpha p + (1 - alpha) q)`, `0 <= alpha < 1`: the forward divergence, bounded.
    SkewKl {
        /// How much of the teacher is mixed in; 0 is [`Divergence::ForwardKl`].
        alpha: f64,
    },
    /// `KL(q || (1 - alpha) p + alpha q)`, `0 <= alpha < 1`: the reverse divergence, bounded.
    SkewReverseKl {
        /// How much of the student is mixed in; 0 is [`Divergence::ReverseKl`].
        alpha: f64,
    },
    /// `1/2 sum |p - q|`, between 0 and 1.
    TotalVariation,
}

/// The probabilities of an outcome, and their logarithms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) p: f32,
    pub(crate) q: f32,
    pub(crate) log_p: f32,
    pub(crate) log_q: f32,
}

/// An outcome's part of a divergence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// `f(p, q)`.
    pub(crate) value: f32,
    /// `q df/dq`, where a summand of `f'` that is the same for all outcomes may be left out: the derivative with
    /// respect to the student's logits is `flow(v) - q(v) sum of flow`, and such a summand drops out of it.
    pub(crate) flow: f32,
}

/// `f` of a divergence.
pub(crate) trait Terms {
    /// Whether the divergence is that of coarser outcomes and, weighed with the teacher's mass, those within them: then
    /// a sample of the rest says what is within.
    const HAS_CHAIN_RULE: bool = false;

    fn term(&self, outcome: Outcome) -> Term;
}

/// `x (log_x - log_y)`, which is 0 where `x` is.
#[inline]
pub(crate) fn weighted_log_ratio(x: f32, log_x: f32, log_y: f32) -> f32 {
    if x > 0.0 { x * (log_x - log_y) } else { 0.0 }
}

impl Divergence {
    /// Refuses a parameter that is out of its range.
    ///
    /// # Errors
    /// [`DistillError::Setting`].
    pub fn check(self) -> Result<(), DistillError> {
        let setting =
            |setting, value, expected| Err(DistillError::Setting { setting, value, expected });
        match self {
            Self::JensenShannon { beta } if !(beta > 0.0 && beta < 1.0) => {
                setting("beta", beta, "it must be above 0 and below 1")
            }
            Self::SkewKl { alpha } | Self::SkewReverseKl { alpha }
                if !(0.0..1.0).contains(&alpha) =>
            {
                setting("alpha", alpha, "it must be at least 0 and below 1")
            }
            _ => Ok(()),
        }
    }

    /// The divergence of each row at a temperature: the student's `logits: [R, V] -> [R]`. It is the slow way to ask;
    /// training goes through [`Distillation`](crate::Distillation).
    ///
    /// ```text
    /// p = softmax(teacher / temperature),  q = softmax(logits / temperature)
    /// ```
    ///
    /// # Errors
    /// [`DistillError`].
    pub fn losses(
        self,
        teacher: &TeacherRows,
        logits: &[f32],
        temperature: f64,
    ) -> Result<Vec<f32>, DistillError> {
        self.check()?;
        let rows = logits.len() / teacher.vocab_size().max(1);
        teacher.check(rows, teacher.vocab_size(), temperature)?;
        let rows = logits.chunks_exact(teacher.vocab_size()).enumerate();
        Ok(rows.map(|(row, logits)| self.row_loss(teacher.row(row), logits, temperature)).collect())
    }

    /// Without a mixture of nothing, whose logarithm would not reach as far.
    fn unmixed(self) -> Self {
        match self {
            Self::SkewKl { alpha: 0.0 } => Self::ForwardKl,
            Self::SkewReverseKl { alpha: 0.0 } => Self::ReverseKl,
            other => other,
        }
    }

    pub(crate) fn row_loss(self, teacher: Row<'_>, logits: &[f32], temperature: f64) -> f32 {
        match self.unmixed() {
            Self::ForwardKl => row_loss(&ForwardKl, teacher, logits, temperature),
            Self::ReverseKl => row_loss(&ReverseKl, teacher, logits, temperature),
            Self::JensenShannon { beta } => {
                row_loss(&JensenShannon::new(beta), teacher, logits, temperature)
            }
            Self::SkewKl { alpha } => row_loss(&SkewKl::new(alpha), teacher, logits, temperature),
            Self::SkewReverseKl { alpha } => {
                row_loss(&SkewReverseKl::new(alpha), teacher, logits, temperature)
            }
            Self::TotalVariation => row_loss(&TotalVariation, teacher, logits, temperature),
        }
    }

    pub(crate) fn write_row_gradient(
        self,
        teacher: Row<'_>,
        logits: &[f32],
        temperature: f64,
        scale: f32,
        gradient: &mut [f32],
    ) {
        let out = (scale, gradient);
        match self.unmixed() {
            Self::ForwardKl => row_gradient(&ForwardKl, teacher, logits, temperature, out),
            Self::ReverseKl => row_gradient(&ReverseKl, teacher, logits, temperature, out),
            Self::JensenShannon { beta } => {
                row_gradient(&JensenShannon::new(beta), teacher, logits, temperature, out);
            }
            Self::SkewKl { alpha } => {
                row_gradient(&SkewKl::new(alpha), teacher, logits, temperature, out);
            }
            Self::SkewReverseKl { alpha } => {
                row_gradient(&SkewReverseKl::new(alpha), teacher, logits, temperature, out);
            }
            Self::TotalVariation => {
                row_gradient(&TotalVariation, teacher, logits, temperature, out)
            }
        }
    }
}
