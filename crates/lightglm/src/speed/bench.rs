//! `Bench`: a model loaded, made sparse, and timed.

use std::path::Path;
use std::time::Instant;

use lightglm_core::{KvDtype, WeightDtype};
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedCheckpoint};

use super::rows::RowSpeed;
use super::workload::{Speeds, Subject, Workload};
use crate::device::{DeviceJob, run_on};
use crate::error::Error;
use crate::model::{
    LoadOptions, Loaded, Quantized, Sparsity, Weights, load, load_as, load_source, quantize_source,
};
use crate::progress::ProgressSink;
use crate::sparse::{ActivationThresholds, Allocation, Calibrated, sparse};

/// Tokens that thresholds are found on, and as many others that they are checked on.
const CALIBRATION: usize = 128;

/// Whose weights are timed.
#[derive(Clone, Copy, Debug)]
pub enum BenchModel<'a> {
    /// A model's.
    Checkpoint(&'a Checkpoint),
    /// Random ones of a shape, which cost the same time as real ones; bf16 where
    /// [`LoadOptions::weights`] does not say otherwise. Positions are as many as the workload needs.
    Random(&'a GlmConfig),
}

/// What is timed.
#[derive(Clone, Debug)]
pub struct Bench<'a> {
    /// Whose weights.
    pub model: BenchModel<'a>,
    /// How they are held, and where. Adapters and [`LoadOptions::kv_dtype`] have no effect.
    pub options: LoadOptions,
    /// Instead of [`LoadOptions::sparsity`]: thresholds below which this fraction of the inputs of each
    /// projection of the blocks lies, found on 128 tokens without meaning.
    pub sparsity: Option<f64>,
    /// How keys and values are held; in the precision of the weights if omitted (quantized ones: bf16).
    /// What the device has no arithmetic for is held in f32.
    pub kv_dtype: Option<KvDtype>,
    /// What is run.
    pub workload: Workload,
    /// Passes of so many rows each are timed as well.
    pub rows: &'a [usize],
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchResult {
    /// How weights are held.
    pub scheme: String,
    /// With thresholds, the fraction of the blocks' weights that a token does without: counted on 128
    /// tokens that they were not found on.
    pub sparsity: Option<f64>,
    /// Seconds that loading (or making random weights) took.
    pub load_seconds: f64,
    /// How fast it is.
    pub speeds: Speeds,
    /// How fast it is for each of [`Bench::rows`].
    pub rows: Vec<RowSpeed>,
}

impl Bench<'_> {
    /// Loads the model and times it.
    ///
    /// # Errors
    /// As [`load`] and [`Subject::measure`].
    pub fn run(&self) -> Result<BenchResult, Error> {
        self.options.check()?;
        run_on(self.options.device, self)?
    }

    fn load<B: LmBackend>(&self, device: &B::Device) -> Result<(Subject<B>, Option<f64>), Error> {
        let config = match self.model {
            BenchModel::Checkpoint(checkpoint) => checkpoint.config().clone(),
            BenchModel::Random(config) => {
                let rows = self.rows.iter().copied().max().unwrap_or(0);
                let needed = self.workload.positions().max(rows);
                let max_position_embeddings = config.max_position_embeddings.max(needed);
                GlmConfig { max_position_embeddings, ..config.clone() }
            }
        };
        let mut counted = None;
        let loaded = match (self.sparsity, &self.options.sparsity) {
            (None, Sparsity::Dense) => self.dense(&config, device)?,
            (None, neurons @ Sparsity::PromptNeurons(_)) => {
                sparse(self.quantized(&config, device)?, neurons, device)?
            }
            (sparsity, kind) => {
                let Quantized { model, scheme, integer } = self.quantized(&config, device)?;
                let token = |i| (i * 7919 % config.vocab_size) as u32;
                let ids: Vec<u32> = (0..2 * CALIBRATION).map(token).collect();
                let (calibrate, check) = ids.split_at(CALIBRATION);
                let thresholds = match (sparsity, kind) {
                    (None, Sparsity::Thresholds(file)) => ActivationThresholds::load(file, &model)?,
                    (sparsity, _) => {
                        let (uniform, silent) = (Allocation::Uniform, ProgressSink::default());
                        Calibrated::run(&model, &config, &[calibrate], &[uniform], &silent)?
                            .thresholds(uniform, sparsity.unwrap_or(0.0))?
                    }
                };
                counted = Some(thresholds.count(&model, &[check])?);
                Loaded::new(thresholds.apply(model)?, scheme, integer, device)
            }
        };
        let kv_dtype = match self.kv_dtype {
            Some(kv_dtype) => kv_dtype,
            None => of_weights(self.precision(loaded.integer)?),
        };
        let is_held = B::supports_dtype(device, kv_dtype.into());
        let kv_dtype = if is_held { kv_dtype } else { KvDtype::F32 };
        let (kv_budget, skipped_bytes) =
            (self.options.kv_budget, counted.map_or(0, |counted| counted.skipped_bytes));
        let subject = Subject { loaded, config, kv_dtype, kv_budget, skipped_bytes };
        Ok((subject, counted.map(|counted| counted.sparsity)))
    }

    /// The precision of weights, or what goes with quantized ones.
    fn precision(&self, integer: bool) -> Result<WeightDtype, Error> {
        match (&self.options.weights, self.model) {
            (Weights::Dtype(dtype), _) => Ok(*dtype),
            (_, BenchModel::Checkpoint(checkpoint))
                if !integer && !QuantizedCheckpoint::is_one(checkpoint.weights()) =>
            {
                Ok(checkpoint.stored_dtype()?)
            }
            _ => Ok(WeightDtype::Bf16),
        }
    }

    fn dense<B: LmBackend>(
        &self,
        config: &GlmConfig,
        device: &B::Device,
    ) -> Result<Loaded<B>, Error> {
        match (self.model, &self.options.weights) {
            (BenchModel::Checkpoint(checkpoint), _) => load(checkpoint, &self.options, device),
            (BenchModel::Random(_), Weights::Policy(_)) => {
                Ok(self.quantized(config, device)?.into_loaded(device))
            }
            (BenchModel::Random(_), _) => {
                let (dtype, file) = (self.precision(false)?, Path::new("random weights"));
                let weights = SeededWeights::new(config.clone(), dtype, 0);
                load_source(config, &weights, file, dtype, device)
            }
        }
    }

    fn quantized<B: LmBackend>(
        &self,
        config: &GlmConfig,
        device: &B::Device,
    ) -> Result<Quantized<B>, Error> {
        let (weights, progress) = (&self.options.weights, &self.options.progress);
        match self.model {
            BenchModel::Checkpoint(checkpoint) => {
                crate::model::check(checkpoint, &self.options)?;
                if let Weights::Dtype(_) = weights {
                    let reason = "a sparse model is held as stored or quantized, not converted";
                    return Err(Error::Option { option: "weights", reason: reason.to_owned() });
                }
                load_as(checkpoint, &self.options, device)
            }
            BenchModel::Random(_) => {
                let nothing = Policy::new([])?;
                let policy = if let Weights::Policy(policy) = weights { policy } else { &nothing };
                let file = Path::new("random weights");
                let weights = SeededWeights::new(config.clone(), self.precision(true)?, 0);
                quantize_source(config, &weights, file, policy, progress, device)
            }
        }
    }
}

impl DeviceJob for &Bench<'_> {
    type Output = Result<BenchResult, Error>;

    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output {
        let start = Instant::now();
        let (subject, sparsity) = self.load::<B>(&device)?;
        let load_seconds = start.elapsed().as_secs_f64();
        let speeds = subject.measure(&self.workload, &self.options.progress)?;
        let Workload { repetitions, threads, .. } = self.workload;
        let rows = subject.measure_rows(self.rows, repetitions, threads, &self.options.progress)?;
        let scheme = subject.loaded.scheme;
        Ok(BenchResult { scheme, sparsity, load_seconds, speeds, rows })
    }
}

fn of_weights(precision: WeightDtype) -> KvDtype {
    match precision {
        WeightDtype::F32 => KvDtype::F32,
        WeightDtype::F16 => KvDtype::F16,
        WeightDtype::Bf16 => KvDtype::Bf16,
    }
}
