//! How good is a model? Perplexity, distance from another model, and four question sets.
//!
//! `cargo run --release --example evaluate -- --task squad2 --data dev-v2.0.json --limit 100` asks
//! the first hundred questions and prints a Markdown table with 95 % intervals; `--json` prints one
//! object instead. Data files are read as they are distributed, plain, gzipped or zstd:
//!
//! | task | data | metrics |
//! |---|---|---|
//! | squad2 | SQuAD JSON, or JSON lines of paragraphs | exact, f1, HasAns_, NoAns_, best_ |
//! | cmrc2018 | CMRC 2018 JSON (both layouts), or JSON lines | f1, em, average |
//! | gsm8k | JSON lines: question, answer | exact_match |
//! | banking77 | CSV: text,category; or JSON lines | accuracy, accuracy_norm |
//! | perplexity | text | perplexity |
//! | kld | text, and `--reference` | divergence, top1_agreement |
//!
//! `--predictions FILE` scores answers that somebody else's model gave. Ctrl-C ends the run with
//! the score of what was answered by then.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lightglm::evaluate::{
    AskOptions, Metric, Missing, Predictions, PromptStyle, QuestionOptions, QuestionSet, Report,
    ScoreOptions, divergence_metrics, perplexity_metrics, read_no_answer, read_text,
};
use lightglm::{KvDtype, LoadOptions, Model, ProgressSink, write_whole};
use lightglm_examples::evaluate_args::{EvaluateArgs, Task};
use lightglm_examples::model_args::ModelArgs;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use serde_json::{Value, json};

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = EvaluateArgs::from_command_line();
    let threads = use_threads(args.model.threads)?;
    args.check()?;
    let task = args.task.questions();
    let run = Evaluate { args, threads };
    let (args, Some(task)) = (&run.args, task) else { return run.measure_text() };
    let options = QuestionOptions {
        limit: args.limit,
        shuffle: args.shuffle,
        seed: args.seed,
        shots: args.shots,
        shots_from: args.shots_from.clone(),
        labels: args.labels.clone(),
    };
    let questions = QuestionSet::read(task, &args.data, &options)?;
    let no_answer = args.na_probs.as_deref();
    let no_answer = no_answer.map(|file| read_no_answer(file, args.na_prob_thresh)).transpose()?;
    let missing = if args.allow_missing { Missing::AsOfficial } else { Missing::Refuse };
    let scoring = ScoreOptions { estimates: args.estimates(), no_answer, missing };
    match &args.predictions {
        Some(file) => {
            let metrics = questions.score(&Predictions::read(file)?, &scoring)?;
            run.tell(vec![("predictions", path(file))], metrics, false)
        }
        None => run.ask(&questions, &scoring),
    }
}

/// The work behind the options.
struct Evaluate {
    args: EvaluateArgs,
    threads: usize,
}

impl Evaluate {
    /// Perplexity, or the distance from `--reference`.
    fn measure_text(&self) -> Result<()> {
        let args = &self.args;
        let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
        let options = args.text_options(progress.clone());
        options.protocol.check()?;
        let text = read_text(&args.data)?;
        let model = self.open(&progress)?;
        let data = || args.data.display().to_string();
        let metrics = if self.args.task == Task::Kld {
            let reference = self.args.reference.as_deref().unwrap_or(self.args.model.name());
            let kv_dtype = KvDtype::F32;
            let device = self.args.model.device;
            let exact = LoadOptions { kv_dtype, device, progress, ..LoadOptions::default() };
            let reference = Model::open(reference, exact)?;
            let result = model.kl_divergence(&reference, &text, &options).with_context(data)?;
            divergence_metrics(&result, &self.args.estimates())
        } else {
            perplexity_metrics(&model.perplexity(&text, &options).with_context(data)?)
        };
        let mut settings = self.model_settings();
        settings.extend(self.args.reference.as_ref().map(|name| ("reference", json!(name))));
        settings.push(("context", json!(self.args.context)));
        settings.push(("stride", json!(self.args.stride)));
        settings.push(("context_only", json!(self.args.context_only)));
        self.tell(settings, metrics, false)
    }

    /// Asks the questions.
    fn ask(&self, questions: &QuestionSet, scoring: &ScoreOptions) -> Result<()> {
        let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
        let model = self.open(&progress)?;
        let prompt_style = match self.args.prompt_style.as_str() {
            "plain" => PromptStyle::Plain,
            _ => PromptStyle::Chat,
        };
        let (batch, max_new_tokens) = (self.args.batch, self.args.max_new_tokens);
        let options = AskOptions { prompt_style, max_new_tokens, batch, progress };
        let answers = model.answer(questions, &options)?;
        if let Some(file) = &self.args.save_predictions {
            write_whole(file, format!("{}\n", answers.predictions.to_json()))?;
        }
        let metrics = questions.score_answers(&answers, scoring)?;
        let mut settings = self.model_settings();
        settings.push(("shots", json!(self.args.shots)));
        settings.extend(self.args.shots_from.as_ref().map(|file| ("shots_from", path(file))));
        settings.push(("prompt_style", json!(self.args.prompt_style)));
        self.tell(settings, metrics, !answers.is_complete())?;
        let (done, total) = (answers.predictions.len(), answers.asked);
        ensure!(done == total, "interrupted after {done} of {total} questions");
        Ok(())
    }

    fn open(&self, progress: &ProgressSink) -> Result<Model> {
        let EvaluateArgs { model, adapter, .. } = &self.args;
        adapter.open(model, LoadOptions { progress: progress.clone(), ..model.options() })
    }

    /// What of the model a result depends on.
    fn model_settings(&self) -> Vec<(&'static str, Value)> {
        let ModelArgs { scheme, policy, thresholds, kv_dtype, kv_budget, .. } = &self.args.model;
        let mut settings =
            vec![("model", json!(self.args.model.name())), ("threads", json!(self.threads))];
        settings.extend(scheme.map(|scheme| ("scheme", json!(scheme.to_string()))));
        settings.extend(policy.as_ref().map(|policy| ("policy", json!(policy.to_string()))));
        settings.extend(thresholds.as_ref().map(|file| ("thresholds", path(file))));
        settings.extend(self.args.adapter.adapter.as_ref().map(|name| ("adapter", json!(name))));
        settings.push(("kv_dtype", json!(kv_dtype.name())));
        settings.extend(kv_budget.map(|positions| ("kv_budget", json!(positions))));
        settings
    }

    /// Prints the report, or writes it to `--output`; `settings` stand first in it.
    fn tell(
        &self,
        mut settings: Vec<(&str, Value)>,
        metrics: Vec<Metric>,
        interrupted: bool,
    ) -> Result<()> {
        settings.push(("data", path(&self.args.data)));
        settings.extend(self.args.limit.map(|limit| ("limit", json!(limit))));
        if self.args.task.questions().is_some() {
            settings.push(("shuffle", json!(self.args.shuffle)));
            settings.push(("seed", json!(self.args.seed)));
        }
        settings.extend(self.args.na_probs.as_ref().map(|file| ("na_probs", path(file))));
        settings.push(("version", json!(env!("CARGO_PKG_VERSION"))));
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        let (task, settings) = (self.args.task.name(), settings.collect());
        let report = Report { task, settings, metrics, interrupted };
        let text =
            if self.args.json { format!("{}\n", report.to_json()) } else { report.to_markdown() };
        match &self.args.output {
            Some(file) => write_whole(file, &text)?,
            None => print!("{text}"),
        }
        Ok(())
    }
}

fn path(path: &Path) -> Value {
    json!(path.display().to_string())
}
