//! The options of `evaluate`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{CommandFactory, FromArgMatches};
use lightglm::evaluate::{Estimates, NoAnswer, Protocol, Task as Questions, TextOptions};
use lightglm::{KvDtype, LoadOptions, ProgressSink, SMALL_MODEL, Sparsity, Weights};

use crate::adapter_args::AdapterArgs;
use crate::model_args::ModelArgs;

/// Which model, what is measured, and how.
#[derive(Debug, clap::Parser)]
pub struct EvaluateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its adapter.
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// What to measure.
    #[arg(long, value_enum)]
    pub task: Task,
    /// Questions, or text.
    #[arg(long)]
    pub data: PathBuf,
    /// At most this many questions (windows, for perplexity and kld).
    #[arg(long)]
    pub limit: Option<usize>,
    /// Take the questions in the random order that --seed decides.
    #[arg(long)]
    pub shuffle: bool,
    /// Decides --shuffle, the shots and the resamples of a bootstrap.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Solved examples in front of every question.
    #[arg(long, default_value_t = 0, requires = "shots_from")]
    pub shots: usize,
    /// Where the examples come from: a training file of the task's format.
    #[arg(long)]
    pub shots_from: Option<PathBuf>,
    /// banking77: a JSON array of all labels; those of --data and --shots-from if omitted.
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// Score these answers, a JSON object {id: answer}, without a model.
    #[arg(long, conflicts_with_all = ["model", "shots", "save_predictions"])]
    pub predictions: Option<PathBuf>,
    /// Count unanswered questions as the official scorer does instead of refusing them.
    #[arg(long, requires = "predictions")]
    pub allow_missing: bool,
    /// squad2: how likely each question is to have no answer, a JSON object {id: probability}.
    #[arg(long)]
    pub na_probs: Option<PathBuf>,
    /// squad2: the --na-probs above which a question counts as unanswered.
    #[arg(long, default_value_t = NoAnswer::DEFAULT_THRESHOLD)]
    pub na_prob_thresh: f64,
    /// Write the answers to this file, a JSON object {id: answer}.
    #[arg(long)]
    pub save_predictions: Option<PathBuf>,
    /// How questions become prompts: chat, by the model's template, or plain, as one text.
    #[arg(long, default_value = "chat", value_parser = ["chat", "plain"])]
    pub prompt_style: String,
    /// Longest answer, in tokens; 48 for spans and 320 for solutions if omitted.
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// Questions answered at once.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// perplexity and kld: tokens the model sees at once.
    #[arg(long, default_value_t = 512)]
    pub context: usize,
    /// perplexity and kld: tokens from one window to the next.
    #[arg(long, default_value_t = 256)]
    pub stride: usize,
    /// perplexity and kld: positions at the start of each window that are context and are not scored.
    #[arg(long, default_value_t = 0)]
    pub context_only: usize,
    /// kld: the model to measure the distance from, dense; if omitted, --model without the options that
    /// change it.
    #[arg(long)]
    pub reference: Option<String>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Write the result to this file instead of stdout.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// SQuAD 2.0.
    Squad2,
    /// CMRC 2018.
    Cmrc2018,
    /// GSM8K.
    Gsm8k,
    /// BANKING77.
    Banking77,
    /// Perplexity of a text.
    Perplexity,
    /// Kullback-Leibler divergence from another model on a text.
    Kld,
}

impl Task {
    /// As the option spells it.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The question set; `None` for the tasks that read a text.
    pub fn questions(self) -> Option<Questions> {
        match self {
            Self::Squad2 => Some(Questions::Squad2),
            Self::Cmrc2018 => Some(Questions::Cmrc2018),
            Self::Gsm8k => Some(Questions::Gsm8k),
            Self::Banking77 => Some(Questions::Banking77),
            Self::Perplexity | Self::Kld => None,
        }
    }
}

impl EvaluateArgs {
    /// Reads the command line. Keys and values are held as f32 if nothing else is said, so that what is
    /// measured is the model.
    pub fn from_command_line() -> Self {
        // The questions and texts that it measures are not what the embedded model is for.
        let command = Self::command()
            .mut_arg("kv_dtype", |arg| arg.default_value("f32"))
            .mut_arg("model", |arg| {
                arg.default_value(SMALL_MODEL).help("A folder, a .gguf file, or a hub id")
            });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Refuses what clap cannot see. Files are checked where they are read.
    ///
    /// # Errors
    /// Where options do not belong to the task, or are zero.
    pub fn check(&self) -> Result<()> {
        let (task, asks) = (self.task.name(), self.task.questions().is_some());
        let only = |given: bool, flag: &str, fits: bool| -> Result<()> {
            ensure!(!given || fits, "{flag} does not belong to --task {task}");
            Ok(())
        };
        only(self.predictions.is_some(), "--predictions", asks)?;
        only(self.save_predictions.is_some(), "--save-predictions", asks)?;
        only(self.shots > 0, "--shots", asks)?;
        only(self.na_probs.is_some(), "--na-probs", self.task == Task::Squad2)?;
        only(self.labels.is_some(), "--labels", self.task == Task::Banking77)?;
        only(self.reference.is_some(), "--reference", self.task == Task::Kld)?;
        let LoadOptions { weights, kv_dtype, kv_budget, sparsity, .. } = self.model.options();
        let changed = matches!(weights, Weights::Policy(_))
            || sparsity != Sparsity::Dense
            || kv_budget.is_some()
            || kv_dtype != KvDtype::F32;
        ensure!(
            self.task != Task::Kld || self.reference.is_some() || changed,
            "--task kld needs --reference, or a --scheme, --policy, --thresholds, --kv-dtype or \
             --kv-budget to measure"
        );
        ensure!(kv_budget != Some(0), "--kv-budget must be at least 1");
        ensure!(self.limit != Some(0), "--limit must be at least 1");
        ensure!(self.batch > 0, "--batch must be at least 1");
        Ok(())
    }

    /// How a text is cut, and how much of it is read.
    pub fn text_options(&self, progress: ProgressSink) -> TextOptions {
        let Self { context, stride, context_only, .. } = *self;
        let protocol = Protocol { context_length: context, stride, bos: None, context_only };
        let options = TextOptions { protocol, max_tokens: None, progress };
        match self.limit {
            Some(windows) => options.with_windows(windows),
            None => options,
        }
    }

    /// How intervals are estimated.
    pub fn estimates(&self) -> Estimates {
        Estimates { seed: self.seed, ..Estimates::default() }
    }
}
