//! `DistillArgs`: teacher, student, and how one teaches the other.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use lightglm::prune::{StudentShape, Wanted};
use lightglm::training::data::epoch_order;
use lightglm::training::{Method, ScheduleShape, TokenizedExample, TrainConfig};
use lightglm::{Policy, Scheme};

use super::student_sizes;
use crate::learnt_rows::RowLimits;
use crate::training_args::TrainingArgs;

/// The teacher if none is named.
const TEACHER: &str = "smollm2-135m-instruct";

/// The largest learning rate if omitted: what was cut has far to go.
const LEARNING_RATE: f64 = 3e-4;

/// Teacher, student, and how one teaches the other.
#[derive(Clone, Debug, clap::Args)]
pub struct DistillArgs {
    /// What every program that trains has; `--model` is the teacher.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// A student that is there already, of the teacher's vocabulary, instead of one cut out of the teacher.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["share", "layers", "hidden", "ffn", "heads"])]
    pub student: Option<PathBuf>,
    /// Parameters of the student as a share of the teacher's: as many layers and neurons go.
    #[arg(long, default_value_t = 0.34, conflicts_with_all = ["layers", "hidden", "ffn", "heads"])]
    pub share: f64,
    /// Keep this many layers.
    #[arg(long)]
    pub layers: Option<usize>,
    /// Keep this many channels of the residual stream.
    #[arg(long)]
    pub hidden: Option<usize>,
    /// Keep this many neurons of each feed-forward part.
    #[arg(long)]
    pub ffn: Option<usize>,
    /// Keep this many query heads.
    #[arg(long)]
    pub heads: Option<usize>,
    /// Tokens of the training rows that decide what is cut, at most.
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub calibration_tokens: usize,
    /// Tokens of a row at most: texts are cut, longer conversations are dropped.
    #[arg(long, default_value_t = 256)]
    pub context: usize,
    /// Learn from at most N rows (pieces of a text), drawn by the seed.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub limit: usize,
    /// Measure on at most N rows (pieces of a text), the first ones.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub test_limit: usize,
    /// Bytes that the teacher's distribution behind a token takes in its file, at most.
    #[arg(long, default_value_t = 292)]
    pub bytes_per_row: usize,
    /// Share of the divergence from the teacher in the loss; the rest is that of the text.
    #[arg(long, default_value_t = 1.0)]
    pub kl_weight: f64,
    /// Teach another student of the same beginning the text alone, to compare.
    #[arg(long)]
    pub compare: bool,
    /// What the student's matrices become: int8, int4, int4wo-g128, w8a8, ...
    #[arg(long, default_value = "int8")]
    pub scheme: Scheme,
    /// Times that each row is seen to bear quantization, towards the teacher; 0 only rounds.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub qat_epochs: usize,
    /// Ask the questions of BANKING77 in this file, too: JSON lines or CSV of text and category.
    #[arg(long, value_name = "FILE")]
    pub banking: Option<PathBuf>,
    /// Ask at most N of them, drawn by the seed.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub banking_limit: usize,
    /// Tokens that each model decodes to be timed.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub decode: usize,
    /// The folder for students, the teacher's file, checkpoints, metrics and curves.
    #[arg(long, default_value = "distilled")]
    pub output: PathBuf,
}

impl DistillArgs {
    /// The teacher's name or folder.
    pub fn teacher(&self) -> &str {
        self.training.model.as_deref().unwrap_or(TEACHER)
    }

    /// The student's scheme as a policy.
    pub fn policy(&self) -> Policy {
        Policy::uniform(self.scheme)
    }

    /// What can be refused before anything is opened or written.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self) -> Result<()> {
        ensure!((0.0..=1.0).contains(&self.kl_weight), "--kl-weight must be between 0 and 1");
        ensure!(self.share > 0.0 && self.share <= 1.0, "--share must be above 0 and at most 1");
        ensure!(self.context > 1, "--context must be at least 2");
        ensure!(
            self.limit > 0 && self.test_limit > 0,
            "--limit and --test-limit must be at least 1"
        );
        ensure!(self.decode > 0, "--decode must be at least 1");
        self.teaching(&Method::Full)?;
        Ok(())
    }

    /// The settings of a run with `method`: those of the options, or of quantization-aware training.
    ///
    /// # Errors
    /// Where one of them is impossible.
    pub fn teaching(&self, method: &Method) -> Result<TrainConfig> {
        let (args, defaults) = (&self.training, method.recommended());
        let config = args.config(method, self.context)?;
        let config = match method {
            Method::Qat(_) => TrainConfig {
                epochs: self.qat_epochs,
                learning_rate: defaults.learning_rate,
                schedule: defaults.schedule,
                ..config
            },
            _ => TrainConfig {
                learning_rate: args.learning_rate.unwrap_or(LEARNING_RATE),
                schedule: args.schedule.unwrap_or(ScheduleShape::Cosine),
                ..config
            },
        };
        config.check()?;
        Ok(config)
    }

    /// The student's sizes: those that are named, or what the share makes of the teacher's.
    ///
    /// # Errors
    /// Where the teacher has no such student.
    pub fn wanted(&self, teacher: &StudentShape) -> Result<Wanted> {
        let named = [self.layers, self.hidden, self.ffn, self.heads];
        if named.iter().all(Option::is_none) {
            return student_sizes::of_share(teacher, self.share);
        }
        let wanted = Wanted {
            num_hidden_layers: self.layers,
            hidden_size: self.hidden,
            intermediate_size: self.ffn,
            num_attention_heads: self.heads,
            ..Wanted::default()
        };
        wanted.shape(teacher)?;
        Ok(wanted)
    }

    /// How many rows, for a model that takes `context_length` tokens.
    pub fn row_limits(&self, context_length: usize) -> RowLimits {
        let tokens = self.context.min(context_length);
        RowLimits { tokens, train: self.limit, test: self.test_limit }
    }

    /// Tokens of rows, in an order that the seed decides, that say what of the teacher goes.
    pub fn calibration(&self, rows: &[TokenizedExample]) -> Vec<u32> {
        let order = epoch_order(rows.len(), self.training.seed, 1).into_iter();
        let tokens = order.flat_map(|row| rows[row].tokens.iter().copied());
        tokens.take(self.calibration_tokens).collect()
    }

    /// What decides the results of the stages, for a student of these sizes: a run in a folder is continued with the same.
    pub fn settings(&self, wanted: &Wanted) -> String {
        let Self { training, .. } = self;
        let named = |path: &Option<PathBuf>, omitted: &str| {
            path.as_ref().map_or(omitted.to_owned(), |path| path.display().to_string())
        };
        let or_default = |value: Option<String>| value.unwrap_or("by default".to_owned());
        let size = |size: Option<usize>| size.map_or("all".to_owned(), |size| size.to_string());
        format!(
            "teacher {}, student {}: layers {}, hidden {}, ffn {}, heads {}; {} rows of {} tokens of {}, {} decide, seed {}; \
             epochs {}, batch {}, rate {} {}, kl {}, {} bytes a row; {} in {} epochs",
            self.teacher(),
            named(&self.student, "cut"),
            size(wanted.num_hidden_layers),
            size(wanted.hidden_size),
            size(wanted.intermediate_size),
            size(wanted.num_attention_heads),
            self.limit,
            self.context,
            named(&training.train, "the examples"),
            self.calibration_tokens,
            training.seed,
            or_default(training.epochs.map(|epochs| epochs.to_string())),
            training.batch_size,
            or_default(training.learning_rate.map(|rate| rate.to_string())),
            or_default(training.schedule.map(|schedule| schedule.to_string())),
            self.kl_weight,
            self.bytes_per_row,
            self.scheme,
            self.qat_epochs,
        )
    }
}
