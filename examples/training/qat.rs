//! Teaches a model to bear its own quantization, and shows what that saves.
//!
//! ```text
//! cargo run --release --example qat -- --scheme int4wo-g128 --train TEXT --test TEXT --output DIR
//! ```
//! trains with weights (and activations, where the scheme has them) rounded as the packed model will
//! round them, towards the model before quantization: nobody needs labels for that, any text of the kind
//! that the model will meet does. Then it packs the trained weights and compares, on the test rows, the
//! dense model, the model rounded to nearest, and the trained one: perplexity, and how much of the gap
//! is made up for. Files are those of `finetune`: plain text, or rows of conversations, of which the
//! answers count; the examples' own if omitted, which are too few for numbers to be quoted.
//!
//! DIR gets checkpoints (`--resume`), `metrics.jsonl`, `loss.svg`, `qat.json` and the packed model,
//! `model/`, which `chat`, `evaluate` and `bench` open. `--lora RANK` trains adapters in place of all
//! weights; they are added to the weights before these are rounded. Ctrl-C saves and ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lightglm::training::{
    LoraConfig, Method, QatConfig, TokenizedExample, TrainOutcome, TrainingModel, perplexity,
};
use lightglm::{Policy, Scheme};
use lightglm_examples::progress_bar;
use lightglm_training_examples::learnt_rows::{RowLimits, learnt_rows};
use lightglm_training_examples::training_args::TrainingArgs;
use lightglm_training_examples::training_watch::{WatchedRun, peak_resident_bytes};
use serde::Serialize;

#[derive(Parser)]
#[command(about = "Train a model with its quantization simulated")]
struct Args {
    #[command(flatten)]
    training: TrainingArgs,
    /// What the matrices become: int4, int4wo-g128, w8a8, ...
    #[arg(long, default_value = "int4wo-g128")]
    scheme: Scheme,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// Tokens of a row at most: texts are cut, longer conversations are dropped.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Learn from at most N rows (pieces of a text), drawn by the seed.
    #[arg(long, value_name = "N", default_value_t = 800)]
    limit: usize,
    /// Measure on at most N rows (pieces of a text), the first ones.
    #[arg(long, value_name = "N", default_value_t = 100)]
    test_limit: usize,
    /// Train adapters of this rank instead of all weights.
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// Share of the divergence from the dense model in the loss; the rest is that of the text.
    #[arg(long, default_value_t = 1.0)]
    kl_weight: f64,
    /// Simulate an eight-bit KV cache, too.
    #[arg(long)]
    int8_kv: bool,
    /// The folder for checkpoints, metrics, curves and the packed model.
    #[arg(long, default_value = "quantization-aware")]
    output: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    policy: String,
    method: String,
    seed: u64,
    train_rows: usize,
    train_tokens: usize,
    test_rows: usize,
    test_labels: usize,
    dense_perplexity: f64,
    /// Rounded to nearest, without training.
    rounded_perplexity: f64,
    trained_perplexity: f64,
    /// Share of the gap between dense and rounded that training made up for.
    recovered: f64,
    /// `trained / dense - 1`.
    rise: f64,
    outcome: TrainOutcome,
    training_seconds: f64,
    peak_resident_bytes: Option<u64>,
    threads: usize,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let shared = &args.training;
    let (threads, stop) = shared.begin()?;
    ensure!((0.0..=1.0).contains(&args.kl_weight), "--kl-weight must be between 0 and 1");
    ensure!(args.context > 1, "--context must be at least 2");
    let policy = args.policy.clone().unwrap_or_else(|| Policy::uniform(args.scheme));
    let method = Method::Qat(args.method(policy.clone()));
    // Before anything is opened, asked or written.
    let config = shared.config(&method, args.context)?;
    let options = shared.options(args.context);
    let mut student = TrainingModel::open_with(shared.name(), method, options)?;
    let tokens = args.context.min(student.checkpoint().config().context_length());
    let limits = RowLimits { tokens, train: args.limit, test: args.test_limit };
    let (train, test) = learnt_rows(shared, student.text(), limits)?;
    let title = format!("{} towards {policy}", student.method().describe());
    let run = WatchedRun::open(&args.output, shared.resume, title)?;

    let progress = progress_bar::on_stderr_until(stop.clone());
    let teacher = student.teacher()?.context("the method has a teacher")?;
    let dense_perplexity = perplexity(&teacher, &test, &progress)?;
    drop(teacher);
    let rounded_perplexity = perplexity(&student.model()?, &test, &progress)?;
    let Some(trained) = run.train(&mut student, &train, &[], &config, stop)? else {
        return Ok(());
    };
    let trained_perplexity = perplexity(&student.model()?, &test, &progress)?;
    student.save(args.output.join("model"))?;

    let report = Report {
        model: shared.name().to_owned(),
        policy: policy.to_string(),
        method: student.method().describe(),
        seed: shared.seed,
        train_rows: train.len(),
        train_tokens: train.iter().map(|row| row.tokens.len()).sum(),
        test_rows: test.len(),
        test_labels: test.iter().map(TokenizedExample::labels).sum(),
        dense_perplexity,
        rounded_perplexity,
        trained_perplexity,
        recovered: (rounded_perplexity - trained_perplexity)
            / (rounded_perplexity - dense_perplexity),
        rise: trained_perplexity / dense_perplexity - 1.0,
        outcome: trained.outcome,
        training_seconds: trained.seconds,
        peak_resident_bytes: peak_resident_bytes(),
        threads,
    };
    if !shared.report(&report, &args.output.join("qat.json"))? {
        print(&report, &args.output);
    }
    Ok(())
}

impl Args {
    fn method(&self, policy: Policy) -> QatConfig {
        let adapters =
            |rank| LoraConfig { rank, alpha: 2.0 * rank as f64, ..LoraConfig::default() };
        let lora = self.lora.map(adapters);
        QatConfig { policy, lora, int8_kv: self.int8_kv, kl_weight: self.kl_weight }
    }
}

fn print(report: &Report, output: &Path) {
    println!("| model | perplexity | above dense |\n|---|---|---|");
    let line = |name: &str, perplexity: f64| {
        let rise = 100.0 * (perplexity / report.dense_perplexity - 1.0);
        println!("| {name} | {perplexity:.4} | {rise:+.2} % |");
    };
    line("dense", report.dense_perplexity);
    line(&format!("{}, rounded to nearest", report.policy), report.rounded_perplexity);
    line(&format!("{}, trained", report.policy), report.trained_perplexity);
    println!(
        "\n{:.0} % of the gap made up for by {} steps on {} tokens ({}), {:.0} s; measured on {} \
         labels of {} rows",
        100.0 * report.recovered,
        report.outcome.step,
        report.train_tokens,
        report.method,
        report.training_seconds,
        report.test_labels,
        report.test_rows,
    );
    println!("packed model: {}", output.join("model").display());
}
