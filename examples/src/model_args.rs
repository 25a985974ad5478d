//! `ModelArgs`: which model, and how it is held; the same options in every program that opens one.

use std::path::PathBuf;

use anyhow::Result;
use lightglm::checkpoint::Checkpoint;
use lightglm::{
    DEFAULT_MODEL, Device, KvDtype, LoadOptions, Model, Policy, Scheme, Sparsity, WeightDtype,
    Weights,
};

use crate::progress_bar;
use crate::use_threads;

/// Tokens of a conversation at most, where nobody says how many.
pub const MAX_CONTEXT: usize = 8192;

/// Which model, and how it is held.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// A folder, a .gguf file, or a hub id; the embedded model if omitted.
    #[arg(long)]
    pub model: Option<String>,
    /// Hold dense weights in this precision: f32, f16, bf16.
    #[arg(long, value_parser = weight_dtype)]
    pub dtype: Option<WeightDtype>,
    /// Quantize the weights while they are loaded: int8, int4, int8wo, ...
    #[arg(long, conflicts_with = "dtype")]
    pub scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with_all = ["scheme", "dtype"])]
    pub policy: Option<Policy>,
    /// Hold keys and values as: f32, f16, bf16, int8, int8-rotated.
    #[arg(long, default_value = "f16")]
    pub kv_dtype: KvDtype,
    /// Positions that a decode step attends to at most, in all layers but the first two; all if omitted.
    #[arg(long, value_name = "POSITIONS")]
    pub kv_budget: Option<usize>,
    /// Leave out activations below the thresholds in this file, which `sparsify` wrote.
    #[arg(long, value_name = "FILE", conflicts_with = "dtype")]
    pub thresholds: Option<PathBuf>,
    /// Let each prompt choose this fraction of the feed-forward neurons for its reply (GRIFFIN).
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["thresholds", "dtype"])]
    pub prompt_neurons: Option<f64>,
    /// Copy weights out of their mapped file into memory, in huge pages.
    #[arg(long)]
    pub copy_weights: bool,
    /// Where to run: cpu, wgpu, cuda.
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    pub threads: Option<usize>,
}

impl ModelArgs {
    /// The options as the library takes them.
    pub fn options(&self) -> LoadOptions {
        let policy = self.policy.clone().or(self.scheme.map(Policy::uniform));
        let weights = match (policy, self.dtype) {
            (Some(policy), _) => Weights::Policy(policy),
            (None, Some(dtype)) => Weights::Dtype(dtype),
            (None, None) => Weights::Stored,
        };
        let sparsity = match (&self.thresholds, self.prompt_neurons) {
            (Some(file), _) => Sparsity::Thresholds(file.clone()),
            (None, Some(keep)) => Sparsity::PromptNeurons(keep),
            (None, None) => Sparsity::Dense,
        };
        LoadOptions {
            weights,
            device: self.device,
            kv_dtype: self.kv_dtype,
            kv_budget: self.kv_budget,
            copy_weights: self.copy_weights,
            sparsity,
            progress: progress_bar::on_stderr(),
            ..LoadOptions::default()
        }
    }

    /// `--model`, or the default model's name.
    pub fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(DEFAULT_MODEL)
    }

    /// Applies `--threads` and opens the model's files.
    ///
    /// # Errors
    /// Where the model cannot be found, fetched or read.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        use_threads(self.threads)?;
        Ok(lightglm::checkpoint::open(self.name(), &progress_bar::on_stderr())?)
    }

    /// Applies `--threads` and opens the model.
    ///
    /// # Errors
    /// Where the model cannot be found, fetched or read, and where the options do not fit it.
    pub fn open(&self, options: LoadOptions) -> Result<Model> {
        use_threads(self.threads)?;
        let model = Model::open(self.name(), options)?;
        tell_what_int8_saves(&model)?;
        let unused = model.unused_generation_keys();
        if !unused.is_empty() {
            eprintln!("generation_config.json: not used: {}", unused.join(", "));
        }
        Ok(model)
    }
}

/// One line on stderr for a model that was made for fewer tokens than were asked for.
pub fn tell_context(model: &Model, asked: Option<usize>) {
    let own = model.max_context();
    if let Some(asked) = asked.filter(|&asked| asked > own) {
        eprintln!("context: the model was made for {own} tokens, not for {asked}");
    }
}

/// One line on stderr for a model that is held dense.
fn tell_what_int8_saves(model: &Model) -> Result<()> {
    let int8 = Weights::scheme("int8")?;
    let (false, Ok(smaller)) = (model.is_integer(), model.weight_bytes(&int8)) else {
        return Ok(());
    };
    let held = match model.scheme() {
        "f32" => Weights::Dtype(WeightDtype::F32),
        _ => Weights::Stored,
    };
    let (held, gigabytes) = (model.weight_bytes(&held)? as f64 / 1e9, smaller as f64 / 1e9);
    let scheme = model.scheme();
    eprintln!(
        "weights in {scheme}: {held:.2} GB; --scheme int8 would hold them in {gigabytes:.2} GB"
    );
    Ok(())
}

/// `--dtype`.
///
/// # Errors
/// For any other word.
pub fn weight_dtype(text: &str) -> Result<WeightDtype, String> {
    match text {
        "f32" => Ok(WeightDtype::F32),
        "f16" => Ok(WeightDtype::F16),
        "bf16" => Ok(WeightDtype::Bf16),
        _ => Err("expected f32, f16 or bf16".to_owned()),
    }
}

/// `--device`.
///
/// # Errors
/// For any other word.
pub fn device(text: &str) -> Result<Device, String> {
    let all = [Device::Cpu, Device::Wgpu, Device::Cuda];
    let found = all.into_iter().find(|device| device.name() == text);
    found.ok_or_else(|| "expected cpu, wgpu or cuda".to_owned())
}
