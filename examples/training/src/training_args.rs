//! `TrainingArgs`: the options that every program which trains has; `LoraArgs`: those of adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, ensure};
use lightglm::training::{
    Activations, LoraConfig, Method, ScheduleShape, TrainConfig, TrainingOptions,
};
use lightglm::{Device, SMALL_MODEL, write_whole};
use lightglm_kernels::keep_freed_memory;
use serde::Serialize;

use crate::row_args::RowArgs;
use lightglm_examples::model_args::device;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};

/// What is trained on which rows, how long, and where it is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct TrainingArgs {
    /// A folder, a .gguf file, or a hub id; smollm2-135m-instruct if omitted.
    #[arg(long)]
    pub model: Option<String>,
    /// Learn from these rows, a file or a folder of files; the program's own if omitted.
    #[arg(long, requires = "test", value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// Test on these rows.
    #[arg(long, requires = "train", value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// How the files are read.
    #[command(flatten)]
    pub rows: RowArgs,
    /// Times that each row is seen; if omitted 3, or 1 to bear quantization.
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Rows of a step.
    #[arg(long, default_value_t = 8)]
    pub batch_size: usize,
    /// The largest learning rate; if omitted 1e-3 for adapters and 3e-5 for all parameters, 3e-4 to distil; to bear
    /// quantization 5e-5, or 1e-5 where no weight gets fewer than eight bits.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// How it falls: constant, linear, cosine; if omitted linear, or cosine to distil and to bear quantization.
    #[arg(long)]
    pub schedule: Option<ScheduleShape>,
    /// Steps between checkpoints; once an epoch if omitted.
    #[arg(long)]
    pub checkpoint_every: Option<u64>,
    /// Compute blocks again in the backward pass: less memory, a third more time.
    #[arg(long)]
    pub recompute: bool,
    /// Continue after the last checkpoint in --output.
    #[arg(long)]
    pub resume: bool,
    /// Decides which rows are learnt from, their order, and the adapters' first values.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where to train: cpu.
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    pub threads: Option<usize>,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

impl TrainingArgs {
    /// Applies `--device` and `--threads`; returns the number of threads, and a flag that Ctrl-C raises.
    ///
    /// # Errors
    /// For a device other than the CPU, and for no thread.
    pub fn begin(&self) -> Result<(usize, Arc<AtomicBool>)> {
        ensure!(self.device == Device::Cpu, "--device: models are trained on the cpu only");
        let threads = use_threads(self.threads)?;
        keep_freed_memory();
        Ok((threads, stop_on_ctrl_c()?))
    }

    /// `--model`, or the small model's name.
    pub fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(SMALL_MODEL)
    }

    /// How the model is opened, for rows of at most `max_tokens` tokens.
    pub fn options(&self, max_tokens: usize) -> TrainingOptions {
        let progress = progress_bar::on_stderr();
        TrainingOptions {
            max_tokens,
            seed: self.seed,
            allow_dropped: self.rows.allow_dropped,
            progress,
            ..TrainingOptions::default()
        }
    }

    /// Writes a report to `file`, and with `--json` to stdout; whether it is there now.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn report(&self, report: &impl Serialize, file: &Path) -> Result<bool> {
        let json = serde_json::to_string_pretty(report)?;
        write_whole(file, &json)?;
        if self.json {
            println!("{json}");
        }
        Ok(self.json)
    }

    /// The settings of a run with `method` on rows of at most `max_tokens` tokens.
    ///
    /// # Errors
    /// Where one of them is impossible.
    pub fn config(&self, method: &Method, max_tokens: usize) -> Result<TrainConfig> {
        let defaults = method.recommended();
        let config = TrainConfig {
            batch_size: self.batch_size,
            epochs: self.epochs.unwrap_or(defaults.epochs),
            learning_rate: self.learning_rate.unwrap_or(defaults.learning_rate),
            schedule: self.schedule.unwrap_or(defaults.schedule),
            micro_batch_tokens: max_tokens.max(defaults.micro_batch_tokens),
            activations: match self.recompute {
                true => Activations::Recompute,
                false => Activations::Keep,
            },
            seed: self.seed,
            checkpoint_every: self.checkpoint_every,
            ..defaults
        };
        config.check()?;
        Ok(config)
    }
}

/// How adapters are made.
#[derive(Clone, Debug, clap::Args)]
pub struct LoraArgs {
    /// Rank of the adapters.
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// The adapters' update is scaled by alpha / rank.
    #[arg(long, default_value_t = 32.0)]
    pub alpha: f64,
    /// Share of the adapters' inputs that are zero in training.
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f64,
    /// Projections with adapters; all of a block if omitted.
    #[arg(long, value_delimiter = ',')]
    pub target_modules: Option<Vec<String>>,
    /// Train these whole, beside the adapters: lm_head, embed_tokens.
    #[arg(long, value_delimiter = ',', value_name = "MODULES")]
    pub modules_to_save: Vec<String>,
}

impl LoraArgs {
    /// The configuration as the library takes it.
    pub fn config(&self) -> LoraConfig {
        let defaults = LoraConfig::default();
        LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            target_modules: self.target_modules.clone().unwrap_or(defaults.target_modules),
            modules_to_save: self.modules_to_save.clone(),
            ..defaults
        }
    }
}
