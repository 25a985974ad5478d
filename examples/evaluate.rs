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

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::KvDtype;
use lightglm_eval::Report;
use lightglm_eval::data::{
    LabeledText, Predictions, Problem, Question, labels_of, read_labeled_texts, read_labels,
    read_na_probs, read_problems, read_questions,
};
use lightglm_eval::metrics::{
    Estimates, Metric, Missing, NoAnswer, accuracy, cmrc2018, gsm8k, squad2,
};
use lightglm_eval::prompting::{
    Prompt, PromptText, SpanTask, ask, choose, in_random_order, is_solved, label_prompt,
    most_likely_labels, problem_prompt, spoken_label,
};
use lightglm_examples::device::{Device, DeviceJob, run_on};
use lightglm_examples::loaded::Loaded;
use lightglm_examples::precision::Precision;
use lightglm_examples::prompt_text::{ChatText, PlainText, PromptStyle};
use lightglm_examples::serving::policy_of;
use lightglm_examples::text_quality::{
    TextWindows, TokenizedText, text_divergence, text_perplexity,
};
use lightglm_examples::whole_file::write_whole;
use lightglm_examples::{stop_on_ctrl_c, use_threads};
use lightglm_generation::ContiguousKvCache;
use lightglm_generation::RunControl;
use lightglm_generation::batched::{BatchOptions, BatchSubject};
use lightglm_hub::DEFAULT_MODEL;
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_quant::{Policy, Scheme};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// What to measure.
    #[arg(long, value_enum)]
    task: Task,
    /// Questions, or text.
    #[arg(long)]
    data: PathBuf,
    /// Only the first so many questions (windows, for perplexity and kld).
    #[arg(long)]
    limit: Option<usize>,
    /// Take the questions in the random order that --seed decides.
    #[arg(long)]
    shuffle: bool,
    /// Decides --shuffle, the shots and the resamples of a bootstrap.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Solved examples in front of every question.
    #[arg(long, default_value_t = 0, requires = "shots_from")]
    shots: usize,
    /// Where the examples come from: a training file of the task's format.
    #[arg(long)]
    shots_from: Option<PathBuf>,
    /// banking77: a JSON array of all labels; those of --data and --shots-from where left out.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Score these answers, a JSON object {id: answer}, without a model.
    #[arg(long, conflicts_with_all = ["model", "shots", "save_predictions"])]
    predictions: Option<PathBuf>,
    /// Count unanswered questions as the official scorer does instead of refusing them.
    #[arg(long, requires = "predictions")]
    allow_missing: bool,
    /// squad2: how likely each question is to have no answer, a JSON object {id: probability}.
    #[arg(long)]
    na_probs: Option<PathBuf>,
    /// squad2: the --na-probs above which a question counts as unanswered.
    #[arg(long, default_value_t = NoAnswer::DEFAULT_THRESHOLD)]
    na_prob_thresh: f64,
    /// Write the answers to this file, a JSON object {id: answer}.
    #[arg(long)]
    save_predictions: Option<PathBuf>,
    /// How questions become prompts.
    #[arg(long, value_enum, default_value_t)]
    prompt_style: PromptStyle,
    /// Longest answer, in tokens; 48 for spans and 320 for solutions where left out.
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Questions answered at once.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[command(flatten)]
    windows: TextWindows,
    /// kld: the model to measure the distance from; where left out, the model itself without --scheme,
    /// --policy, --thresholds, --kv-dtype and --kv-budget.
    #[arg(long)]
    reference: Option<String>,
    /// Hold the weights in this precision.
    #[arg(long, value_enum, conflicts_with_all = ["scheme", "policy"])]
    dtype: Option<Precision>,
    /// Quantize the model (not the reference) while loading: int8, int4, int8wo, w8a8, ...
    #[arg(long)]
    scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// Keys and values of the model (not the reference) as f32, f16, bf16, int8 or int8-rotated.
    #[arg(long, default_value = "f32")]
    kv_dtype: KvDtype,
    /// Positions that a decode step of the model (not the reference) attends to at most, in all layers
    /// but the first two; the pages of the cache are chosen by the queries. perplexity and kld then
    /// run what they score token by token, and --context-only tokens before it at once, exactly.
    #[arg(long, value_name = "POSITIONS")]
    kv_budget: Option<usize>,
    /// Make the model (not the reference) sparse by this file, which `sparsify` writes; for quantized
    /// models.
    #[arg(long, value_name = "FILE", conflicts_with = "dtype")]
    thresholds: Option<PathBuf>,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: Device,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the result to this file instead of stdout.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    Squad2,
    Cmrc2018,
    Gsm8k,
    Banking77,
    Perplexity,
    Kld,
}

impl Task {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Perplexity | Self::Kld)
    }
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let threads = use_threads(args.threads)?;
    check(&args)?;
    if args.task.is_text() {
        return run_on(args.device, Evaluate { args, questions: None, threads });
    }
    let questions = QuestionSet::read(&args)?;
    if let Some(file) = &args.predictions {
        let missing = if args.allow_missing { Missing::AsOfficial } else { Missing::Refuse };
        let metrics = questions.score(&args, &Predictions::read(file)?, missing)?;
        let settings = settings(&args, vec![("predictions", json!(file.display().to_string()))]);
        return tell(
            &args,
            Report { task: args.task.name(), settings, metrics, interrupted: false },
        );
    }
    run_on(args.device, Evaluate { args, questions: Some(questions), threads })
}

/// What clap cannot see. Files are checked where they are read.
fn check(args: &Args) -> Result<()> {
    let task = args.task.name();
    let only = |given: bool, flag: &str, fits: bool| -> Result<()> {
        ensure!(!given || fits, "{flag} does not belong to --task {task}");
        Ok(())
    };
    only(args.predictions.is_some(), "--predictions", !args.task.is_text())?;
    only(args.save_predictions.is_some(), "--save-predictions", !args.task.is_text())?;
    only(args.shots > 0, "--shots", !args.task.is_text())?;
    only(args.na_probs.is_some(), "--na-probs", args.task == Task::Squad2)?;
    only(args.labels.is_some(), "--labels", args.task == Task::Banking77)?;
    only(args.reference.is_some(), "--reference", args.task == Task::Kld)?;
    let changed = args.scheme.is_some()
        || args.policy.is_some()
        || args.thresholds.is_some()
        || args.kv_budget.is_some()
        || args.kv_dtype != KvDtype::F32;
    ensure!(
        args.task != Task::Kld || args.reference.is_some() || changed,
        "--task kld needs --reference, or a --scheme, --policy, --thresholds, --kv-dtype or \
         --kv-budget to measure"
    );
    ensure!(args.kv_budget != Some(0), "--kv-budget must be at least 1");
    ensure!(args.limit != Some(0), "--limit must be at least 1");
    ensure!(args.batch > 0, "--batch must be at least 1");
    Ok(())
}

/// Prints the report, or writes it to `--output`.
fn tell(args: &Args, report: Report) -> Result<()> {
    let text = if args.json { format!("{}\n", report.to_json()) } else { report.to_markdown() };
    match &args.output {
        Some(file) => write_whole(file, &text),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// What stands beside every result, `more` first.
fn settings(args: &Args, more: Vec<(&str, Value)>) -> Vec<(String, Value)> {
    let path = |path: &PathBuf| json!(path.display().to_string());
    let mut settings = more;
    settings.push(("data", path(&args.data)));
    settings.extend(args.limit.map(|limit| ("limit", json!(limit))));
    if !args.task.is_text() {
        settings.push(("shuffle", json!(args.shuffle)));
        settings.push(("seed", json!(args.seed)));
    }
    settings.extend(args.na_probs.as_ref().map(|file| ("na_probs", path(file))));
    settings.push(("version", json!(env!("CARGO_PKG_VERSION"))));
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The questions to ask and the solved examples to show.
enum QuestionSet {
    Spans { task: SpanTask, questions: Vec<Question>, shots: Vec<Question> },
    Problems { problems: Vec<Problem>, shots: Vec<Problem> },
    Labels { texts: Vec<LabeledText>, labels: Vec<String>, shots: Vec<LabeledText> },
}

impl QuestionSet {
    fn read(args: &Args) -> Result<Self> {
        Ok(match args.task {
            Task::Squad2 | Task::Cmrc2018 => {
                let is_squad = args.task == Task::Squad2;
                let (questions, shots) = read_both(args, read_questions)?;
                let questions = select(args, questions);
                let task = if is_squad { SpanTask::Squad2 } else { SpanTask::Cmrc2018 };
                Self::Spans { task, questions, shots: choose(&shots, args.shots, args.seed) }
            }
            Task::Gsm8k => {
                let (problems, shots) = read_both(args, read_problems)?;
                let shots = choose(&shots, args.shots, args.seed);
                Self::Problems { problems: select(args, problems), shots }
            }
            Task::Banking77 => {
                let (texts, shots) = read_both(args, read_labeled_texts)?;
                let labels = match &args.labels {
                    Some(file) => read_labels(file)?,
                    None => labels_of(texts.iter().chain(&shots)),
                };
                LabeledText::check(&texts, &args.data, &labels)?;
                if let Some(file) = &args.shots_from {
                    LabeledText::check(&shots, file, &labels)?;
                }
                let shots = choose(&shots, args.shots, args.seed);
                Self::Labels { texts: select(args, texts), labels, shots }
            }
            Task::Perplexity | Task::Kld => bail!("{} asks no questions", args.task.name()),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Spans { questions, .. } => questions.len(),
            Self::Problems { problems, .. } => problems.len(),
            Self::Labels { texts, .. } => texts.len(),
        }
    }

    /// Drops the questions that `predictions` has no answer to.
    fn keep_answered(&mut self, predictions: &Predictions) {
        let answered = |id: &str| predictions.get(id).is_some();
        match self {
            Self::Spans { questions, .. } => questions.retain(|question| answered(&question.id)),
            Self::Problems { problems, .. } => problems.retain(|problem| answered(&problem.id)),
            Self::Labels { texts, .. } => texts.retain(|text| answered(&text.id)),
        }
    }

    fn score(
        &self,
        args: &Args,
        predictions: &Predictions,
        missing: Missing,
    ) -> Result<Vec<Metric>> {
        let estimates = Estimates { seed: args.seed, ..Estimates::default() };
        Ok(match self {
            Self::Spans { task: SpanTask::Squad2, questions, .. } => {
                let no_answer = args.na_probs.as_ref().map(|file| -> Result<NoAnswer> {
                    let origin = file.display().to_string();
                    Ok(NoAnswer::new(origin, read_na_probs(file)?, args.na_prob_thresh))
                });
                let no_answer = no_answer.transpose()?;
                squad2(questions, predictions, no_answer.as_ref(), missing, &estimates)?
            }
            Self::Spans { questions, .. } => cmrc2018(questions, predictions, missing, &estimates)?,
            Self::Problems { problems, .. } => gsm8k(problems, predictions, missing, &estimates)?,
            Self::Labels { texts, labels, .. } => {
                accuracy(texts, labels, predictions, missing, &estimates)?
            }
        })
    }

    /// Asks everything. The second predictions are the labels by mean likelihood a byte.
    fn ask<B: LmBackend>(
        &self,
        args: &Args,
        model: &Loaded<B>,
        control: &mut RunControl<'_>,
    ) -> Result<(Predictions, Option<Predictions>)> {
        let template = model.checkpoint.chat_template()?;
        let tokenizer = &model.tokenizer;
        let chat = ChatText { tokenizer, template: &template };
        let plain = PlainText { tokenizer };
        let text: &dyn PromptText = match args.prompt_style {
            PromptStyle::Chat => &chat,
            PromptStyle::Plain => &plain,
        };
        let end_tokens = model.checkpoint.eos_token_ids()?;
        let options = BatchOptions { sequences: args.batch, ..BatchOptions::default() };
        let mut make_cache = |sequences, positions| Ok(model.cache(sequences, positions));
        let mut subject =
            BatchSubject::new(&*model.decoder, &mut make_cache, ContiguousKvCache::truncate);
        let mut reply = |prompts: &[Prompt], longest, is_complete: &dyn Fn(&str) -> bool| {
            let end = (&end_tokens[..], args.max_new_tokens.unwrap_or(longest));
            ask(&mut subject, text, prompts, end, is_complete, &options, control)
        };
        let mut predictions = Predictions::new("the model's answers");
        match self {
            Self::Spans { task, questions, shots } => {
                let prompts: Vec<Prompt> =
                    questions.iter().map(|question| task.prompt(question, shots)).collect();
                let replies = reply(&prompts, 48, &SpanTask::is_answered)?;
                for (question, reply) in questions.iter().zip(replies) {
                    if let Some(reply) = reply {
                        predictions.insert(&question.id, task.answer(&reply));
                    }
                }
            }
            Self::Problems { problems, shots } => {
                let prompts: Vec<Prompt> =
                    problems.iter().map(|problem| problem_prompt(problem, shots)).collect();
                let replies = reply(&prompts, 320, &is_solved)?;
                for (problem, reply) in problems.iter().zip(replies) {
                    if let Some(reply) = reply {
                        predictions.insert(&problem.id, reply);
                    }
                }
            }
            Self::Labels { texts, labels, shots } => {
                let prompts: Vec<Prompt> =
                    texts.iter().map(|text| label_prompt(&text.text, shots)).collect();
                let spoken: Vec<String> = labels.iter().map(|label| spoken_label(label)).collect();
                let chosen =
                    most_likely_labels(&mut subject, text, &prompts, &spoken, &options, control)?;
                let mut normalized = Predictions::new("the model's answers");
                for (text, chosen) in texts.iter().zip(chosen) {
                    if let Some([by_sum, by_mean]) = chosen {
                        predictions.insert(&text.id, &labels[by_sum]);
                        normalized.insert(&text.id, &labels[by_mean]);
                    }
                }
                return Ok((predictions, Some(normalized)));
            }
        }
        Ok((predictions, None))
    }
}

/// Reads `--data` and, where examples are wanted, `--shots-from`.
fn read_both<T, E>(
    args: &Args,
    read: impl Fn(&std::path::Path) -> Result<Vec<T>, E>,
) -> Result<(Vec<T>, Vec<T>)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let shots = match &args.shots_from {
        Some(file) => read(file)?,
        None => Vec::new(),
    };
    ensure!(
        shots.len() >= args.shots,
        "--shots {}: --shots-from has {} examples only",
        args.shots,
        shots.len()
    );
    Ok((read(&args.data)?, shots))
}

/// Applies `--shuffle` and `--limit`.
fn select<T: Clone>(args: &Args, mut items: Vec<T>) -> Vec<T> {
    if args.shuffle {
        items = in_random_order(&items, args.seed);
    }
    items.truncate(args.limit.unwrap_or(usize::MAX));
    items
}

/// The model under evaluation.
fn subject<B: LmBackend>(args: &Args, device: &B::Device) -> Result<Loaded<B>> {
    let policy = policy_of(args.scheme, args.policy.clone())?;
    let name = args.model.as_deref();
    let model = match &args.thresholds {
        None => Loaded::open(name, policy, args.dtype, args.kv_dtype, device)?,
        Some(file) => Loaded::open_sparse(name, policy, file, args.kv_dtype, device)?,
    };
    Ok(model.with_kv_budget(args.kv_budget))
}

/// Everything that needs a model.
struct Evaluate {
    args: Args,
    questions: Option<QuestionSet>,
    threads: usize,
}

impl DeviceJob for Evaluate {
    type Output = ();

    fn run<B: LmGradients>(self, device: B::Device) -> Result<()> {
        let Self { args, questions, threads } = self;
        let stop = stop_on_ctrl_c()?;
        let model = subject::<B>(&args, &device)?;
        let name = args.model.as_deref().unwrap_or(DEFAULT_MODEL);
        let mut extra = vec![("model", json!(name)), ("threads", json!(threads))];
        extra.extend(args.scheme.map(|scheme| ("scheme", json!(scheme.to_string()))));
        extra.extend(args.policy.as_ref().map(|policy| ("policy", json!(policy.to_string()))));
        let path = |path: &PathBuf| json!(path.display().to_string());
        extra.extend(args.thresholds.as_ref().map(|file| ("thresholds", path(file))));
        extra.push(("kv_dtype", json!(args.kv_dtype.name())));
        extra.extend(args.kv_budget.map(|positions| ("kv_budget", json!(positions))));
        let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
            "{bar:40} {human_pos}/{human_len} {elapsed} (about {eta} to go)",
        )?);
        let mut progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        let mut control = RunControl {
            progress: Some(&mut progress),
            stop: Some(&stop),
            ..RunControl::default()
        };
        if args.kv_budget.is_some() {
            // Pages are chosen for single rows: what is scored is decoded.
            control.rows_per_step = 1;
        }
        let Some(mut questions) = questions else {
            let metrics = match args.task {
                Task::Kld => divergence(&args, &model, &mut control)?,
                _ => text_perplexity(&model, &text(&args, &model)?, &mut control)?,
            };
            bar.finish_and_clear();
            extra.extend(args.reference.as_ref().map(|name| ("reference", json!(name))));
            extra.push(("context", json!(args.windows.context)));
            extra.push(("stride", json!(args.windows.stride)));
            extra.push(("context_only", json!(args.windows.context_only)));
            let settings = settings(&args, extra);
            let task = args.task.name();
            return tell(&args, Report { task, settings, metrics, interrupted: false });
        };
        let total = questions.len();
        let (predictions, normalized) = questions.ask(&args, &model, &mut control)?;
        bar.finish_and_clear();
        let done = predictions.len();
        let interrupted = done < total;
        if let Some(file) = &args.save_predictions {
            write_whole(file, format!("{}\n", predictions.to_json()))?;
        }
        ensure!(done > 0, "interrupted before the first of {total} questions was answered");
        questions.keep_answered(&predictions);
        let mut metrics = questions.score(&args, &predictions, Missing::Refuse)?;
        if let Some(normalized) = normalized {
            let mut norm = questions.score(&args, &normalized, Missing::Refuse)?.remove(0);
            norm.name = "accuracy_norm".to_owned();
            metrics.insert(1, norm);
        }
        extra.push(("shots", json!(args.shots)));
        extra.extend(args.shots_from.as_ref().map(|file| ("shots_from", path(file))));
        extra.push(("prompt_style", json!(format!("{:?}", args.prompt_style).to_lowercase())));
        let settings = settings(&args, extra);
        tell(&args, Report { task: args.task.name(), settings, metrics, interrupted })?;
        ensure!(!interrupted, "interrupted after {done} of {total} questions");
        Ok(())
    }
}

/// The text as `model` reads it; `--limit` counts windows.
fn text<B: LmBackend>(args: &Args, model: &Loaded<B>) -> Result<TokenizedText> {
    TokenizedText::read(&args.data, &args.windows, args.limit, &model.tokenizer)
}

fn divergence<B: LmBackend>(
    args: &Args,
    model: &Loaded<B>,
    control: &mut RunControl<'_>,
) -> Result<Vec<Metric>> {
    let reference = args.reference.as_deref().or(args.model.as_deref());
    let reference = Loaded::<B>::open(reference, None, None, KvDtype::F32, &model.device)?;
    let estimates = Estimates { seed: args.seed, ..Estimates::default() };
    let texts = (text(args, model)?, text(args, &reference)?);
    text_divergence(&reference, model, &texts.0, &texts.1, &estimates, control)
}
