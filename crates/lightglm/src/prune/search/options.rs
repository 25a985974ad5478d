//! What is searched for, and among what.

use std::fmt;
use std::path::PathBuf;

use lightglm_distill::student::{StudentError, Wanted};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{Policy, Scheme};

use super::super::shape_of;
use crate::device::Device;
use crate::error::Error;
use crate::progress::ProgressSink;

/// What may become of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockChoice {
    /// It is kept, its matrices in this scheme.
    Kept(Scheme),
    /// It is left out.
    Dropped,
}

impl fmt::Display for BlockChoice {
    /// The scheme's name, or `dropped`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(scheme) => scheme.fmt(f),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

/// What the student may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Bytes of all its tensors, packed: matrices, norms, biases and tables.
    Bytes(u64),
    /// Milliseconds of a decode step of one sequence on this machine, its table and head included.
    Milliseconds(f64),
}

impl Budget {
    /// `bytes` or `milliseconds`.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::Milliseconds(_) => "milliseconds",
        }
    }

    /// In the units that costs are counted in: bytes, nanoseconds.
    pub(super) fn in_units(&self) -> u64 {
        match *self {
            Self::Bytes(bytes) => bytes,
            // Saturates.
            Self::Milliseconds(milliseconds) => (milliseconds * 1e6) as u64,
        }
    }

    /// So many of those units, in [`unit`](Self::unit)s.
    pub(super) fn of_units(&self, units: u64) -> f64 {
        match self {
            Self::Bytes(_) => units as f64,
            Self::Milliseconds(_) => units as f64 / 1e6,
        }
    }
}

/// What is searched for, and among what.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// What the student may cost.
    pub budget: Budget,
    /// Schemes that a block may have; by default dense, int8 and int4.
    pub schemes: Vec<Scheme>,
    /// Whether a block may be left out; by default it may.
    pub drop: bool,
    /// Numbers of feed-forward neurons, of which all blocks get one; by default the teacher's alone. The neurons that stay
    /// are chosen as [`prune`](crate::prune::prune()) chooses them.
    pub intermediate_sizes: Vec<usize>,
    /// The scheme of the embedding table and of the head; by default dense.
    pub tables: Scheme,
    /// Tokens of the text that choices are scored on.
    pub calibration: Vec<u32>,
    /// Tokens that the model sees at once, by default 512.
    pub context: usize,
    /// Positions that a decode step looks back on where time is measured, by default 512.
    pub depth: usize,
    /// How often a step is timed, by default 7; the median counts.
    pub repetitions: usize,
    /// The file of what was measured on this machine. Where it is there it has to have what is needed; where it is not, it
    /// is written. If omitted, `latency.json` in the folder, which grows.
    pub latency_table: Option<PathBuf>,
    /// Steps that the budget is cut into where costs have no common unit, by default 65,536.
    pub budget_steps: usize,
    /// Where models run while they are scored. Time is measured on the CPU alone.
    pub device: Device,
    /// Told how far the work is.
    pub progress: ProgressSink,
}

impl SearchOptions {
    /// The defaults under `budget`, without a text.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            schemes: vec![Scheme::Dense, Scheme::INT8, Scheme::INT4],
            drop: true,
            intermediate_sizes: Vec::new(),
            tables: Scheme::Dense,
            calibration: Vec::new(),
            context: 512,
            depth: 512,
            repetitions: 7,
            latency_table: None,
            budget_steps: 1 << 16,
            device: Device::default(),
            progress: ProgressSink::default(),
        }
    }

    /// What each block may become, in order.
    pub(super) fn choices(&self) -> Vec<BlockChoice> {
        let kept = self.schemes.iter().map(|scheme| BlockChoice::Kept(*scheme));
        kept.chain(self.drop.then_some(BlockChoice::Dropped)).collect()
    }

    /// The numbers of neurons that are tried: those wanted, or the teacher's of `checkpoint`.
    pub(super) fn widths(&self, checkpoint: &Checkpoint) -> Vec<usize> {
        match self.intermediate_sizes.is_empty() {
            true => vec![checkpoint.config().intermediate_size],
            false => self.intermediate_sizes.clone(),
        }
    }

    /// Refuses what cannot be searched for.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let wrong = |option, reason: &str| Err(Error::Option { option, reason: reason.to_owned() });
        if self.calibration.is_empty() {
            return Err(StudentError::NothingMeasured.into());
        }
        if self.schemes.is_empty() {
            return wrong("schemes", "a block that is kept has a scheme");
        }
        if self.context == 0 {
            return wrong("context", "the model has to see a token at once");
        }
        if self.repetitions == 0 {
            return wrong("repetitions", "must be at least 1");
        }
        match self.budget {
            Budget::Milliseconds(milliseconds) if !milliseconds.is_finite() => {
                return wrong("budget", "milliseconds are a number");
            }
            Budget::Milliseconds(_) if self.device != Device::Cpu => {
                return wrong("budget", "milliseconds are measured on the CPU alone");
            }
            _ => {}
        }
        for scheme in self.schemes.iter().chain([&self.tables]) {
            // What no rule may name nothing is quantized to.
            format!("*={scheme}").parse::<Policy>()?;
        }
        let teacher = shape_of(checkpoint.config());
        for size in self.widths(checkpoint) {
            Wanted { intermediate_size: Some(size), ..Wanted::default() }.shape(&teacher)?;
        }
        Ok(())
    }
}
