//! `Measures`: the same questions to every model of a pipeline, and the table of what was found.

use std::path::Path;

use anyhow::{Result, bail};
use lightglm::evaluate::{
    AskOptions, MetricValue, QuestionOptions, QuestionSet, ScoreOptions, Task,
};
use lightglm::speed::decode_speeds;
use lightglm::training::{TokenizedExample, kl_divergence, perplexity};
use lightglm::{KvDtype, LoadOptions, Model, ProgressSink, Weights};
use serde::Serialize;

use super::distill_args::DistillArgs;

/// What every model is measured by.
pub struct Measures<'a> {
    teacher: &'a Model,
    rows: &'a [TokenizedExample],
    /// Of BANKING77.
    questions: Option<QuestionSet>,
    /// Tokens that are decoded to be timed.
    decode: usize,
    progress: ProgressSink,
}

/// What was found about a model.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its part in the pipeline.
    pub name: String,
    /// How its weights are held.
    pub scheme: String,
    /// Parameters; a tied head counts once.
    pub parameters: u64,
    /// Bytes of its matrices.
    pub bytes: u64,
    /// Decoded tokens a second, one sequence.
    pub tokens_per_second: f64,
    /// Of a label of the test rows.
    pub perplexity: f64,
    /// From the teacher, in nats a label of the test rows.
    pub kl_divergence: f64,
    /// BANKING77: per cent of the questions, the likeliest label counts.
    pub banking77: Option<f64>,
}

/// How every model is opened: keys and values in f32, so that weights alone make differences.
pub fn load_options(progress: &ProgressSink) -> LoadOptions {
    LoadOptions { kv_dtype: KvDtype::F32, progress: progress.clone(), ..LoadOptions::default() }
}

impl<'a> Measures<'a> {
    /// On the test `rows`, and the questions of `--banking`.
    ///
    /// # Errors
    /// Where these cannot be read.
    pub fn new(
        args: &DistillArgs,
        teacher: &'a Model,
        rows: &'a [TokenizedExample],
        progress: &ProgressSink,
    ) -> Result<Self> {
        let options = QuestionOptions {
            limit: Some(args.banking_limit),
            shuffle: true,
            seed: args.training.seed,
            ..QuestionOptions::default()
        };
        let read = |file: &Path| QuestionSet::read(Task::Banking77, file, &options);
        let questions = args.banking.as_deref().map(read).transpose()?;
        Ok(Self { teacher, rows, questions, decode: args.decode, progress: progress.clone() })
    }

    /// The teacher itself.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_teacher(&self) -> Result<Measured> {
        self.of_model("teacher", self.teacher)
    }

    /// The model in `folder`.
    ///
    /// # Errors
    /// Where it cannot be opened or asked, and where the work is interrupted.
    pub fn of(&self, name: &str, folder: &Path) -> Result<Measured> {
        self.of_model(name, &Model::open(folder, load_options(&self.progress))?)
    }

    fn of_model(&self, name: &str, model: &Model) -> Result<Measured> {
        let Self { teacher, rows, progress, .. } = self;
        let tokens: Vec<u32> = rows.iter().flat_map(|row| row.tokens.iter().copied()).collect();
        // A shared machine changes its speed by the second: each takes turns with the teacher.
        let [speed, _] = decode_speeds([model, teacher], &tokens, self.decode, progress)?;
        Ok(Measured {
            name: name.to_owned(),
            scheme: model.scheme().to_owned(),
            parameters: model.config().num_parameters(),
            bytes: model.weight_bytes(&Weights::Stored)?,
            tokens_per_second: speed,
            perplexity: perplexity(model, rows, progress)?,
            kl_divergence: kl_divergence(model, teacher, rows, progress)?,
            banking77: self.banking77(model)?,
        })
    }

    fn banking77(&self, model: &Model) -> Result<Option<f64>> {
        let Some(questions) = &self.questions else { return Ok(None) };
        let options = AskOptions { progress: self.progress.clone(), ..AskOptions::default() };
        let metrics = model.evaluate(questions, &options, &ScoreOptions::default())?;
        match metrics.iter().find(|metric| metric.name == "accuracy").map(|metric| &metric.value) {
            Some(MetricValue::Number(per_cent)) => Ok(Some(*per_cent)),
            _ => bail!("BANKING77 has no accuracy"),
        }
    }
}

/// Prints models as a table.
pub fn print(models: &[Measured]) {
    let banking = models.iter().any(|model| model.banking77.is_some());
    let (title, rule) = if banking { (" BANKING77 |", "---|") } else { ("", "") };
    println!("| model | parameters | MB | tokens/s | perplexity | KL from teacher |{title}");
    println!("|---|---|---|---|---|---|{rule}");
    for model in models {
        let banking =
            model.banking77.map_or(String::new(), |per_cent| format!(" {per_cent:.1} % |"));
        println!(
            "| {} ({}) | {:.2} M | {:.2} | {:.1} | {:.3} | {:.4} |{banking}",
            model.name,
            model.scheme,
            model.parameters as f64 / 1e6,
            model.bytes as f64 / 1e6,
            model.tokens_per_second,
            model.perplexity,
            model.kl_divergence,
        );
    }
}
