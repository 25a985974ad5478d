//! `Calibrated`: a model's activations on a text, and the thresholds that follow from them.

use std::str::FromStr;
use std::sync::Arc;

use super::ActivationStatistics;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;

use super::activation_thresholds::ActivationThresholds;
use super::block_errors::BlockErrors;
use super::error::SparseModelError;
use super::thresholds::sparsity_in_blocks;
use super::{cats, thresholds};
use crate::error::Error;
use crate::model::QuantizedGlm;
use crate::progress::ProgressSink;

/// Tokens that block errors are measured on: each is run some forty times.
const BLOCK_TOKENS: usize = 512;

/// Where a sparsity is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocation {
    /// The same for all projections of the blocks.
    Uniform,
    /// Each block as much, its projections by their errors.
    Block,
    /// All projections of all blocks by their errors.
    Greedy,
    /// The gates of each layer's feed-forward part, as much of each (CATS): at most a third of that
    /// part's weights.
    Gates,
}

impl Allocation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Block, Self::Greedy, Self::Gates];

    /// `uniform`, `block`, `greedy` or `gates`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Block => "block",
            Self::Greedy => "greedy",
            Self::Gates => "gates",
        }
    }

    /// Whether it needs the errors of blocks.
    const fn is_by_error(self) -> bool {
        matches!(self, Self::Block | Self::Greedy)
    }
}

impl FromStr for Allocation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| Error::Option {
            option: "allocation",
            reason: format!("`{name}` is not uniform, block, greedy or gates"),
        })
    }
}

/// A model's activations on a text: thresholds for any sparsity follow from them.
#[derive(Debug)]
pub struct Calibrated {
    /// Where an allocation among projections was asked for.
    inputs: Option<Arc<ActivationStatistics>>,
    /// Where one by errors was.
    errors: Option<BlockErrors>,
    /// Where gates were.
    gates: Option<Arc<ActivationStatistics>>,
}

impl Calibrated {
    /// Runs `model` on `windows` of tokens, each on its own, for what `allocations` need; errors of
    /// blocks are measured on the beginning of the first window.
    ///
    /// # Errors
    /// Where the model refuses the tokens, there are none, an activation is not finite, and where
    /// `progress` breaks off.
    pub fn run<B: LmBackend>(
        model: &QuantizedGlm<B>,
        config: &GlmConfig,
        windows: &[&[u32]],
        allocations: &[Allocation],
        progress: &ProgressSink,
    ) -> Result<Self, Error> {
        let any = |of: fn(Allocation) -> bool| allocations.iter().any(|&one| of(one));
        let inputs = match any(|one| one != Allocation::Gates) {
            true => Some(thresholds::calibrate(model, windows, progress)?),
            false => None,
        };
        let first = windows.first().map_or(&[][..], |window| *window);
        let first = &first[..first.len().min(BLOCK_TOKENS)];
        let errors = match inputs.as_ref().filter(|_| any(Allocation::is_by_error)) {
            Some(inputs) => Some(BlockErrors::measure(model, config, inputs, first, progress)?),
            None => None,
        };
        let gates = match any(|one| one == Allocation::Gates) {
            true => Some(cats::calibrate(model, windows, progress)?),
            false => None,
        };
        Ok(Self { inputs, errors, gates })
    }

    /// Thresholds that leave out `sparsity` (between 0 and 1) of the blocks' weights or, of gates, of
    /// the gates.
    ///
    /// # Errors
    /// Where `sparsity` is not between 0 and 1, the text had no tokens, an activation was not finite,
    /// and [`SparseModelError::NotCalibrated`] where `allocation` was not asked for.
    pub fn thresholds(
        &self,
        allocation: Allocation,
        sparsity: f64,
    ) -> Result<ActivationThresholds, Error> {
        let missing = || SparseModelError::NotCalibrated { allocation: allocation.name() };
        if allocation == Allocation::Gates {
            let gates = self.gates.as_ref().ok_or_else(missing)?;
            return Ok(ActivationThresholds::Gates(gates.uniform(sparsity)?));
        }
        let inputs = self.inputs.as_ref().ok_or_else(missing)?;
        let shares = match (allocation, &self.errors) {
            (Allocation::Block, Some(errors)) => errors.allocate_per_block(sparsity)?,
            (Allocation::Greedy, Some(errors)) => errors.allocate_over_all(sparsity)?,
            (Allocation::Block | Allocation::Greedy, None) => return Err(missing().into()),
            _ => Default::default(),
        };
        let share = |name: &str| {
            let share = shares.get(name).copied();
            share.unwrap_or_else(|| sparsity_in_blocks(name, sparsity))
        };
        Ok(ActivationThresholds::Projections(inputs.thresholds(sparsity, share)?))
    }
}
