//! Teaches a model from examples, and shows what that changed.
//!
//! ```text
//! cargo run --release --example finetune
//! ```
//! teaches the default model, SmolLM2-135M-Instruct, with LoRA: 2,000 messages to a bank with their
//! intents (BANKING77) and a small English and Chinese FAQ of an invented shop, both in
//! `examples/data/`. It asks the questions of the test rows before and after.
//!
//! ```text
//! cargo run --release --example finetune -- --train FILE --test FILE --output DIR
//! ```
//! does so with your own: JSON lines with `messages`, Alpaca, ShareGPT, prompts and completions,
//! questions and answers (also as CSV), or plain text. A row that is no good is dropped and counted, or
//! ends the program with `--strict`. A test row is right where the answer is the wanted one, or
//! contains one of the texts in its field `expect`.
//!
//! DIR gets checkpoints (`--resume` goes on behind the last one, to the bit), `metrics.jsonl`,
//! `loss.svg`, and the adapter in PEFT's layout, `adapter/` (which PEFT loads where the model is a GLM
//! checkpoint; a GGUF file's projections are called and ordered otherwise). `--merge` adds the adapter to
//! the weights and writes `model/`, which `chat` and `quantize` open. `--full` trains every parameter and
//! writes it. Ctrl-C saves and ends; a second one ends at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn_flex::{Flex, FlexDevice};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{Activations, CausalLm, TrainableLm, WeightDtype, trainable_parameters};
use lightglm_examples::model_folder;
use lightglm_examples::teaching::{Accuracy, accuracy, answers, longest_answer};
use lightglm_examples::training_watch::{TrainingWatch, open_run, peak_resident_bytes};
use lightglm_examples::whole_file::write_whole;
use lightglm_examples::{open_model, stop_on_ctrl_c, use_threads};
use lightglm_generation::RunControl;
use lightglm_hub::DEFAULT_MODEL;
use lightglm_kernels::keep_freed_memory;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseLinear, LoadPrecision};
use lightglm_text::ModelText;
use lightglm_train::data::{
    Conversation, ConversationTokenizer, DataFormat, Example, OnBadRow, ReadOptions,
    ValidationSize, read_examples, split,
};
use lightglm_train::lora::{DropoutSeed, Lora, LoraConfig};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::ScheduleShape;
use lightglm_train::peft::save_adapter;
use lightglm_train::trainer::{StopReason, TrainConfig, TrainOutcome, Trainer};
use serde::Serialize;

type Train = Autodiff<Flex>;

/// What the model is told in front of each message to the bank.
const BANKING_INSTRUCTION: &str = "Name the intent.";

/// Answers shown before and after.
const SHOWN: usize = 3;

#[derive(Parser)]
#[command(about = "Teach a model from examples")]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// Learn from these rows; BANKING77 and the FAQ where left out.
    #[arg(long, requires = "test")]
    train: Option<PathBuf>,
    /// Test on these rows.
    #[arg(long, requires = "train")]
    test: Option<PathBuf>,
    /// The files' format; found out where left out.
    #[arg(long)]
    format: Option<DataFormat>,
    /// A system turn for conversations that have none.
    #[arg(long)]
    system: Option<String>,
    /// End at the first bad row instead of dropping it.
    #[arg(long)]
    strict: bool,
    /// Learn from so many rows at most.
    #[arg(long)]
    limit: Option<usize>,
    /// Test on so many rows at most.
    #[arg(long)]
    test_limit: Option<usize>,
    /// Share of the training rows that is held back for validation.
    #[arg(long, default_value_t = 0.03)]
    validation: f64,
    /// Train every parameter instead of adapters.
    #[arg(long)]
    full: bool,
    /// Rank of the adapters.
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// The adapters' update is scaled by alpha / rank.
    #[arg(long, default_value_t = 32.0)]
    alpha: f64,
    /// Share of the adapters' inputs that are zero in training.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// Projections with adapters.
    #[arg(long, value_delimiter = ',')]
    target_modules: Option<Vec<String>>,
    /// Times that each row is seen.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// Rows of a step.
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// The largest learning rate; 1e-3 for adapters and 3e-5 with --full where left out.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// How it falls: constant, linear, cosine.
    #[arg(long, default_value = "linear")]
    schedule: ScheduleShape,
    /// Tokens of a row at most; longer ones are dropped.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Validations without improvement after which training stops.
    #[arg(long)]
    patience: Option<usize>,
    /// Steps between checkpoints; once an epoch where left out.
    #[arg(long)]
    checkpoint_every: Option<u64>,
    /// Compute blocks again in the backward pass: less memory, a third more time.
    #[arg(long)]
    recompute: bool,
    /// Write the model with the adapters added to its weights, too, for `chat` and `quantize`.
    #[arg(long, conflicts_with = "full")]
    merge: bool,
    /// Go on behind the last checkpoint in --output.
    #[arg(long)]
    resume: bool,
    /// Decides the order of rows and the adapters' first values.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder for checkpoints, metrics, curves and the result.
    #[arg(long, default_value = "finetuned")]
    output: PathBuf,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// A set of test rows and their name.
struct Exam {
    name: String,
    examples: Vec<Example>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    method: String,
    train_rows: usize,
    train_tokens_per_epoch: usize,
    trainable_parameters: usize,
    outcome: TrainOutcome,
    training_seconds: f64,
    tokens_per_second: f64,
    peak_resident_bytes: Option<u64>,
    tests: Vec<TestReport>,
    threads: usize,
}

/// One set of test rows, before and after.
#[derive(Serialize)]
struct TestReport {
    name: String,
    before: Accuracy,
    after: Accuracy,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let threads = use_threads(args.threads)?;
    keep_freed_memory();
    let stop = stop_on_ctrl_c()?;
    let (train, exams) = read_rows(&args)?;
    let checkpoint = open_model(args.model.as_deref())?;
    let text = checkpoint.text()?;
    let f32 = LoadPrecision::Convert(WeightDtype::F32);
    let model = checkpoint.load::<Train>(f32, &FlexDevice)?;
    let lesson = Lesson { args: &args, checkpoint: &checkpoint, text, stop, threads };
    if args.full {
        return lesson.teach(model, None, train, &exams, |model, _, folder| {
            model_folder::save(&model.weights(), &checkpoint, &folder.join("model"))
        });
    }
    let defaults = LoraConfig::default();
    let config = LoraConfig {
        rank: args.rank,
        alpha: args.alpha,
        dropout: args.dropout,
        target_modules: args.target_modules.clone().unwrap_or(defaults.target_modules),
        ..defaults
    };
    let lora = Lora::new("default", config, args.seed)?;
    let mut wrap = |name: &str, linear: DenseLinear<Train>| lora.wrap(name, linear);
    let model = model.no_grad().map_linears(&mut wrap);
    lesson.teach(model, Some(lora.dropout_seed()), train, &exams, |model, base, folder| {
        save_adapter::<Train, _>(model, &lora, Some(base), &folder.join("adapter"))?;
        if args.merge {
            model_folder::save(&model.weights(), &checkpoint, &folder.join("model"))?;
        }
        Ok(())
    })
}

/// The rows to learn from, and those to test on.
fn read_rows(args: &Args) -> Result<(Vec<Example>, Vec<Exam>)> {
    let options = |system: Option<&str>| ReadOptions {
        format: args.format,
        on_bad_row: if args.strict { OnBadRow::Fail } else { OnBadRow::Drop },
        system: system.map(str::to_owned),
        ..ReadOptions::default()
    };
    let read = |path: &Path, system: Option<&str>, limit: Option<usize>| {
        let set = read_examples(path, &options(system))?;
        if set.report.total_dropped() > 0 {
            eprintln!("{}:\n{}", path.display(), set.report);
        }
        let mut examples = set.examples;
        examples.truncate(limit.unwrap_or(usize::MAX));
        Ok::<_, anyhow::Error>(examples)
    };
    if let (Some(train), Some(test)) = (&args.train, &args.test) {
        let system = args.system.as_deref();
        let examples = read(test, system, args.test_limit)?;
        let name = test.file_name().unwrap_or(test.as_os_str()).to_string_lossy().into_owned();
        return Ok((read(train, system, args.limit)?, vec![Exam { name, examples }]));
    }
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let bank = Some(args.system.as_deref().unwrap_or(BANKING_INSTRUCTION));
    let mut train = read(&data.join("banking77_train.jsonl"), bank, args.limit)?;
    train.extend(read(&data.join("faq_train.jsonl"), args.system.as_deref(), args.limit)?);
    let banking = read(&data.join("banking77_test.jsonl"), bank, args.test_limit)?;
    let faq = read(&data.join("faq_test.jsonl"), args.system.as_deref(), args.test_limit)?;
    let exam = |name: &str, examples| Exam { name: name.to_owned(), examples };
    Ok((train, vec![exam("BANKING77", banking), exam("FAQ", faq)]))
}

struct Lesson<'a> {
    args: &'a Args,
    checkpoint: &'a Checkpoint,
    text: ModelText,
    stop: Arc<AtomicBool>,
    threads: usize,
}

impl Lesson<'_> {
    fn teach<M>(
        &self,
        model: M,
        dropout: Option<DropoutSeed>,
        rows: Vec<Example>,
        exams: &[Exam],
        save: impl Fn(&M, &str, &Path) -> Result<()>,
    ) -> Result<()>
    where
        M: TrainableLm<Train> + AutodiffModule<Train, InnerModule: CausalLm<Flex>>,
    {
        let args = self.args;
        let longest = args.max_tokens.min(self.checkpoint.config().max_position_embeddings);
        let mut report = Default::default();
        let examples =
            ConversationTokenizer::new(&self.text).tokenize(&rows, longest, &mut report)?;
        if report.total_dropped() > 0 {
            eprintln!("{report}");
        }
        let (train, validation) = match args.validation > 0.0 && args.validation < 1.0 {
            true => {
                let halves = split(examples, ValidationSize::Share(args.validation), args.seed)?;
                (halves.train, halves.validation)
            }
            false => (examples, Vec::new()),
        };
        let defaults = TrainConfig::default();
        let config = TrainConfig {
            batch_size: args.batch_size,
            epochs: args.epochs,
            learning_rate: args.learning_rate.unwrap_or(if args.full { 3e-5 } else { 1e-3 }),
            schedule: args.schedule,
            micro_batch_tokens: longest.max(defaults.micro_batch_tokens),
            activations: match args.recompute {
                true => Activations::Recompute,
                false => Activations::Keep,
            },
            seed: args.seed,
            patience: args.patience,
            checkpoint_every: args.checkpoint_every,
            ..defaults
        };
        // Before anything is asked or written.
        config.check()?;
        let (folder, metrics) = open_run(&args.output, args.resume)?;
        let before = self.examine(&model.valid(), exams, "before")?;
        let mut watch = TrainingWatch::new(metrics, Arc::clone(&self.stop))?;
        let mut trainer = Trainer::new(&config, &CrossEntropy)
            .with_validation(&validation)
            .with_checkpoints(&folder, args.resume);
        if let Some(dropout) = dropout {
            trainer = trainer.with_dropout(dropout);
        }
        let trainable = trainable_parameters(&model).iter().map(|p| p.values.dims()[0]).sum();
        let started = Instant::now();
        let trained = trainer.run(model, &train, &mut |event| watch.see(event));
        let seconds = started.elapsed().as_secs_f64();
        let title = format!("{} on {} rows", self.method(), train.len());
        let curves = watch.finish(&title, &args.output.join("loss.svg"))?;
        let (model, outcome) = trained?;
        if outcome.reason == StopReason::Interrupted {
            eprintln!("interrupted behind step {}; go on with --resume", outcome.step);
            return Ok(());
        }
        let base = self.checkpoint.path().display().to_string();
        save(&model, args.model.as_deref().unwrap_or(&base), &args.output)?;
        let steps = curves.train.len();
        let tokens: usize = train.iter().map(|example| example.tokens.len()).sum();
        let after = self.examine(&model.valid(), exams, "after")?;
        let tests = exams.iter().zip(before).zip(after).map(|((exam, before), after)| TestReport {
            name: exam.name.clone(),
            before,
            after,
        });
        let seen = tokens as f64 * args.epochs as f64 * steps as f64 / outcome.step.max(1) as f64;
        let report = Report {
            model: args.model.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            method: self.method(),
            train_rows: train.len(),
            train_tokens_per_epoch: tokens,
            trainable_parameters: trainable,
            training_seconds: seconds,
            tokens_per_second: seen / seconds,
            peak_resident_bytes: peak_resident_bytes(),
            tests: tests.collect(),
            threads: self.threads,
            outcome,
        };
        write_whole(&args.output.join("finetune.json"), &serde_json::to_string_pretty(&report)?)?;
        match args.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => self.print(&report),
        }
        Ok(())
    }

    fn method(&self) -> String {
        match self.args.full {
            true => "all parameters".to_owned(),
            false => format!("LoRA of rank {}", self.args.rank),
        }
    }

    /// Asks the questions of every exam.
    fn examine(
        &self,
        model: &dyn CausalLm<Flex>,
        exams: &[Exam],
        when: &str,
    ) -> Result<Vec<Accuracy>> {
        let mut all = Vec::new();
        for exam in exams {
            let conversations: Vec<&Conversation> =
                exam.examples.iter().filter_map(Example::conversation).collect();
            let longest = longest_answer(&self.text, &conversations)?;
            let style = "{msg} {bar:30} {pos}/{len} answers, {eta} left";
            let bar = ProgressBar::new(conversations.len() as u64)
                .with_style(ProgressStyle::with_template(style)?)
                .with_message(format!("{}, {when}", exam.name));
            let mut progress = |done: usize, _: usize| bar.set_position(done as u64);
            let mut control = RunControl {
                progress: Some(&mut progress),
                stop: Some(&self.stop),
                ..RunControl::default()
            };
            let (checkpoint, device) = (self.checkpoint, &FlexDevice);
            let answers = answers(
                &self.text,
                model,
                checkpoint,
                &conversations,
                longest,
                &mut control,
                device,
            )
            .with_context(|| format!("asking {}", exam.name))?;
            bar.finish_and_clear();
            let stopped = self.stop.load(Ordering::Relaxed);
            ensure!(!stopped, "interrupted while asking {}, {when} training", exam.name);
            if !self.args.json {
                for (conversation, answer) in conversations.iter().zip(&answers).take(SHOWN) {
                    let question = conversation.question().last().map_or("", |t| &t.content);
                    let answer = answer.as_deref().unwrap_or("(not asked)");
                    println!("{when}  {question}\n        {}", answer.replace('\n', " "));
                }
            }
            all.push(accuracy(&conversations, &answers));
        }
        Ok(all)
    }

    fn print(&self, report: &Report) {
        println!(
            "\n{}: {} rows, {} parameters, {} steps in {:.0} s, {:.0} tokens/s{}",
            report.method,
            report.train_rows,
            report.trainable_parameters,
            report.outcome.step,
            report.training_seconds,
            report.tokens_per_second,
            report
                .peak_resident_bytes
                .map_or(String::new(), |bytes| format!(", {:.1} GB at most", bytes as f64 / 1e9)),
        );
        if let Some((loss, step)) = report.outcome.best {
            println!("validation loss {loss:.4} at step {step}");
        }
        println!("\n| test | rows | right before | right after |\n|---|---|---|---|");
        for test in &report.tests {
            let percent = |test: &Accuracy| format!("{:.1} %", 100.0 * test.accuracy);
            let (before, after) = (percent(&test.before), percent(&test.after));
            println!("| {} | {} | {before} | {after} |", test.name, test.after.asked);
        }
        println!("\nresult: {}", self.args.output.display());
    }
}
