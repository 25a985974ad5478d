//! `Sparsify`: thresholds found, compared with the dense model, and kept in files.

use std::path::{Path, PathBuf};

use lightglm_kernels::LmGradients;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{Policy, Scheme};
use serde::Serialize;

use super::activation_thresholds::ActivationThresholds;
use super::calibrated::{Allocation, Calibrated};
use super::comparison::{Comparer, Comparison};
use crate::device::{Device, DeviceJob, run_on};
use crate::error::Error;
use crate::model::{LoadOptions, QuantizedGlm, Weights, check, is_packed, load_quantized};
use crate::progress::ProgressSink;

/// Which model is made sparse, and the text for it.
#[derive(Clone, Debug)]
pub struct Sparsify<'a> {
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// How a dense model is quantized; if omitted by `int8`. A quantized one is held as it is stored.
    pub policy: Option<Policy>,
    /// Where it runs.
    pub device: Device,
    /// Tokens that thresholds are found on.
    pub calibration: &'a [u32],
    /// Tokens that sparse models are compared on, no others than these.
    pub check: &'a [u32],
    /// Tokens that the model sees at once, at least 2.
    pub context: usize,
    /// Told how far it is.
    pub progress: ProgressSink,
}

/// Which thresholds.
#[derive(Clone, Copy, Debug)]
pub enum WantedThresholds<'a> {
    /// Every allocation at every sparsity, written to `folder` as `thresholds-ALLOCATION-PERCENT.json`.
    New {
        /// How sparsity is shared out.
        allocations: &'a [Allocation],
        /// Between 0 and 1.
        sparsities: &'a [f64],
        /// Where they are written; it is there.
        folder: &'a Path,
    },
    /// Those of a file that was written before.
    File(&'a Path),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SparsifyReport {
    /// How the model's weights are held.
    pub scheme: String,
    /// The thresholds, in the order in which they were wanted.
    pub rows: Vec<ComparedThresholds>,
}

/// A file of thresholds, and what it costs and gains.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedThresholds {
    /// How sparsity was shared out; `file` where that is not known.
    pub allocation: String,
    /// The sparse model beside the dense one.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// The file.
    pub thresholds: PathBuf,
}

impl Sparsify<'_> {
    /// Finds or reads the thresholds and compares them; what is done is in `report`, also where an error
    /// ends it.
    ///
    /// # Errors
    /// Where the checkpoint is at fault, the policy does not fit it or it is quantized already, there is
    /// nothing to calibrate on or to score, a file cannot be written or is not of this model, and
    /// [`Error::Interrupted`].
    pub fn run(
        &self,
        wanted: WantedThresholds<'_>,
        report: &mut SparsifyReport,
    ) -> Result<(), Error> {
        run_on(self.device, Run { sparsify: self, wanted, report })?
    }

    fn weights(&self) -> Result<Weights, Error> {
        Ok(match (&self.policy, is_packed(self.checkpoint, &Weights::Stored)?) {
            (Some(policy), _) => Weights::Policy(policy.clone()),
            (None, true) => Weights::Stored,
            (None, false) => Weights::Policy(Policy::uniform(Scheme::INT8)),
        })
    }
}

struct Run<'a> {
    sparsify: &'a Sparsify<'a>,
    wanted: WantedThresholds<'a>,
    report: &'a mut SparsifyReport,
}

impl DeviceJob for Run<'_> {
    type Output = Result<(), Error>;

    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output {
        let Sparsify { checkpoint, check: tokens, context, ref progress, .. } = *self.sparsify;
        let options = LoadOptions { weights: self.sparsify.weights()?, ..LoadOptions::default() };
        check(checkpoint, &options)?;
        let quantized = load_quantized::<B>(checkpoint, &options.weights, progress, &device)?;
        self.report.scheme = quantized.scheme;
        let (dense, config) = (&quantized.model, checkpoint.config());
        let comparer = Comparer { dense, config, tokens, context, device: &device };
        let (allocations, sparsities, folder) = match self.wanted {
            WantedThresholds::New { allocations, sparsities, folder } => {
                (allocations, sparsities, folder)
            }
            WantedThresholds::File(file) => {
                let found = ActivationThresholds::load(file, dense)?;
                let comparison = comparer.compare(&found, progress)?;
                let (allocation, thresholds) = ("file".to_owned(), file.to_owned());
                self.report.rows.push(ComparedThresholds { allocation, comparison, thresholds });
                return Ok(());
            }
        };
        let calibrated = self.sparsify.calibrated(dense, allocations)?;
        for &allocation in allocations {
            for &sparsity in sparsities {
                let found = calibrated.thresholds(allocation, sparsity)?;
                let comparison = comparer.compare(&found, progress)?;
                let allocation = allocation.name().to_owned();
                let percent = (1e5 * sparsity).round() / 1e3;
                let thresholds = folder.join(format!("thresholds-{allocation}-{percent}.json"));
                found.save(&thresholds, dense)?;
                self.report.rows.push(ComparedThresholds { allocation, comparison, thresholds });
            }
        }
        Ok(())
    }
}

impl Sparsify<'_> {
    fn calibrated<B: LmGradients>(
        &self,
        dense: &QuantizedGlm<B>,
        allocations: &[Allocation],
    ) -> Result<Calibrated, Error> {
        let windows: Vec<&[u32]> = self.calibration.chunks(self.context.max(1)).collect();
        Calibrated::run(dense, self.checkpoint.config(), &windows, allocations, &self.progress)
    }
}
