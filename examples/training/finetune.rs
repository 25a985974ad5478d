//! Teaches a model from examples, and shows what that changed.
//!
//! ```text
//! cargo run --release --example finetune
//! cargo run --release --example finetune -- --train FILE --test FILE --output DIR
//! ```
//! The first teaches SmolLM2-135M-Instruct, with LoRA: 2,000 messages to a bank with
//! their intents (BANKING77) and a small English and Chinese FAQ of an invented shop, both in
//! `examples/data/`. It asks the questions of the test rows before and after. The second does so with
//! your own (docs/training.md says which files are read). A bad row is dropped and counted, or ends the
//! program with `--strict`. A test row is right where the answer is the wanted one, or contains a text of
//! its field `expect`.
//!
//! DIR gets checkpoints (`--resume` continues after the last one, to the bit), `metrics.jsonl`,
//! `loss.svg`, and the adapter in PEFT's layout, `adapter/` (which PEFT loads where the model is a GLM
//! checkpoint; a GGUF file's projections are called and ordered otherwise). `--merge` adds the adapter to
//! the weights and writes `model/`, which `chat` and `quantize` open. `--full` trains every parameter and
//! writes it. Ctrl-C saves and ends; a second one ends at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use lightglm::training::data::{ValidationSize, split};
use lightglm::training::{
    Accuracy, Example, Method, OnBadRow, ReadOptions, TrainConfig, TrainOutcome, TrainingModel,
    TrainingOptions, answers, conversations,
};
use lightglm::{Model, ProgressSink};
use lightglm_examples::progress_bar;
use lightglm_training_examples::row_args::{read_rows, tell_unasked};
use lightglm_training_examples::training_args::{LoraArgs, TrainingArgs};
use lightglm_training_examples::training_watch::{WatchedRun, peak_resident_bytes};
use serde::Serialize;

/// What the model is told in front of each message to the bank.
const BANKING_INSTRUCTION: &str = "Name the intent.";

#[derive(Parser)]
#[command(about = "Teach a model from examples")]
struct Args {
    #[command(flatten)]
    training: TrainingArgs,
    /// A system turn for conversations that have none.
    #[arg(long)]
    system: Option<String>,
    /// End at the first bad row instead of dropping it.
    #[arg(long)]
    strict: bool,
    /// Learn from at most N rows.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Test on at most N rows.
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    /// Share of the training rows that is held back for validation; 0 for none.
    #[arg(long, default_value_t = 0.03)]
    validation: f64,
    /// Train every parameter instead of adapters.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    lora: LoraArgs,
    /// Leave out rows of more tokens.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Validations without improvement after which training stops.
    #[arg(long)]
    patience: Option<usize>,
    /// Write the model with the adapters added to its weights, too, for `chat` and `quantize`.
    #[arg(long, conflicts_with = "full")]
    merge: bool,
    /// The folder for checkpoints, metrics, curves and the result.
    #[arg(long, default_value = "finetuned")]
    output: PathBuf,
}

/// A set of test rows and their name.
struct TestSet {
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
    let shared = &args.training;
    let (threads, stop) = shared.begin()?;
    let method = if args.full { Method::Full } else { Method::Lora(args.lora.config()) };
    let config = shared.config(&method, args.max_tokens)?;
    let config = TrainConfig { patience: args.patience, ..config };
    config.check()?; // Before anything is opened, asked or written.
    let (examples, tests) = args.rows()?;
    let on_bad_row = args.on_bad_row();
    let options = TrainingOptions { on_bad_row, ..shared.options(args.max_tokens) };
    let mut student = TrainingModel::open_with(shared.name(), method, options)?;
    let rows = student.tokenize_examples(&examples)?;
    if rows.report.total_dropped() + rows.report.unused.len() > 0 {
        eprintln!("as tokens:\n{}", rows.report);
    }
    let rows = split(rows.rows, ValidationSize::Share(args.validation), shared.seed)?;
    let title = format!("{} on {} rows", student.method().describe(), rows.train.len());
    let run = WatchedRun::open(&args.output, shared.resume, title)?;

    let progress = progress_bar::on_stderr_until(stop.clone());
    let before = args.test(&student.model()?, &tests, "before", &progress)?;
    let Some(trained) = run.train(&mut student, &rows.train, &rows.validation, &config, stop)?
    else {
        return Ok(());
    };
    if !args.full {
        student.save_adapter(args.output.join("adapter"))?;
    }
    if args.full || args.merge {
        student.save(args.output.join("model"))?;
    }
    let after = args.test(&student.model()?, &tests, "after", &progress)?;

    let tests = tests.into_iter().zip(before.into_iter().zip(after));
    let tests = tests.map(|(test, (before, after))| TestReport { name: test.name, before, after });
    let tokens: usize = rows.train.iter().map(|row| row.tokens.len()).sum();
    // Of a resumed run, what this part of it has seen.
    let part = trained.steps as f64 / trained.outcome.step.max(1) as f64;
    let report = Report {
        model: shared.name().to_owned(),
        method: student.method().describe(),
        train_rows: rows.train.len(),
        train_tokens_per_epoch: tokens,
        trainable_parameters: student.trainable_parameters()?,
        training_seconds: trained.seconds,
        tokens_per_second: tokens as f64 * config.epochs as f64 * part / trained.seconds,
        peak_resident_bytes: peak_resident_bytes(),
        tests: tests.collect(),
        threads,
        outcome: trained.outcome,
    };
    if !shared.report(&report, &args.output.join("finetune.json"))? {
        print(&report, &args.output);
    }
    Ok(())
}

impl Args {
    fn on_bad_row(&self) -> OnBadRow {
        if self.strict { OnBadRow::Fail } else { OnBadRow::Drop }
    }

    /// The rows to learn from, and those to test on.
    fn rows(&self) -> Result<(Vec<Example>, Vec<TestSet>)> {
        let read = |path: &Path, system: Option<&str>, limit: Option<usize>| {
            let options = self.training.rows.options(self.on_bad_row());
            let mut rows =
                read_rows(path, &ReadOptions { system: system.map(str::to_owned), ..options })?;
            rows.truncate(limit.unwrap_or(usize::MAX));
            Ok::<_, anyhow::Error>(rows)
        };
        let system = self.system.as_deref();
        if let (Some(train), Some(test)) = (&self.training.train, &self.training.test) {
            let name = test.file_name().unwrap_or(test.as_os_str()).to_string_lossy().into_owned();
            let examples = read(test, system, self.test_limit)?;
            tell_unasked(&name, &examples);
            return Ok((read(train, system, self.limit)?, vec![TestSet { name, examples }]));
        }
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        let (mut train, mut tests) = (Vec::new(), Vec::new());
        let bank = Some(system.unwrap_or(BANKING_INSTRUCTION));
        for (name, file, system) in [("BANKING77", "banking77", bank), ("FAQ", "faq", system)] {
            train.extend(read(&data.join(format!("{file}_train.jsonl")), system, self.limit)?);
            let test = data.join(format!("{file}_test.jsonl"));
            let examples = read(&test, system, self.test_limit)?;
            tests.push(TestSet { name: name.to_owned(), examples });
        }
        Ok((train, tests))
    }

    /// Asks the questions of every test set.
    fn test(
        &self,
        model: &Model,
        tests: &[TestSet],
        when: &str,
        progress: &ProgressSink,
    ) -> Result<Vec<Accuracy>> {
        let test = |test: &TestSet| {
            let rows = conversations(&test.examples);
            let answers = answers(model, &rows, progress)
                .with_context(|| format!("{}, {when} training", test.name))?;
            if !self.training.json {
                for (row, answer) in rows.iter().zip(&answers).take(3) {
                    let question = row.question().last().map_or("", |turn| &turn.content);
                    println!("{when}  {question}\n        {}", answer.replace('\n', " "));
                }
            }
            Ok(Accuracy::of(&rows, &answers))
        };
        tests.iter().map(test).collect()
    }
}

fn print(report: &Report, output: &Path) {
    let memory = report.peak_resident_bytes;
    println!(
        "\n{}: {} rows, {} parameters, {} steps in {:.0} s, {:.0} tokens/s{}",
        report.method,
        report.train_rows,
        report.trainable_parameters,
        report.outcome.step,
        report.training_seconds,
        report.tokens_per_second,
        memory.map_or(String::new(), |bytes| format!(", at most {:.1} GB", bytes as f64 / 1e9)),
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
    println!("\nresult: {}", output.display());
}
