//! Schedules: what the learning rate is multiplied with before each step.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScheduleShape {
    /// It does not.
    Constant,
    /// In a straight line to 0 behind the last step.
    #[default]
    Linear,
    /// Along half a cosine to 0 behind the last step.
    Cosine,
}

/// Warm-up in a straight line from 0, then a shape.
///
/// Source: Hugging Face transformers, `optimization.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What follows warm-up.
    pub shape: ScheduleShape,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps of the whole training.
    pub total_steps: u64,
}

impl Schedule {
    /// The factor of step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let falling = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / falling as f64).min(1.0);
        match self.shape {
            ScheduleShape::Constant => 1.0,
            ScheduleShape::Linear => 1.0 - progress,
            ScheduleShape::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        }
    }
}

impl fmt::Display for ScheduleShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
        })
    }
}

/// A schedule that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a schedule: constant, linear, cosine")]
pub struct UnknownSchedule(String);

impl FromStr for ScheduleShape {
    type Err = UnknownSchedule;

    fn from_str(name: &str) -> Result<Self, UnknownSchedule> {
        [Self::Constant, Self::Linear, Self::Cosine]
            .into_iter()
            .find(|shape| shape.to_string() == name)
            .ok_or_else(|| UnknownSchedule(name.to_owned()))
    }
}
