//! A quantized model made sparse, and what that costs and brings.
//!
//! ```text
//! cargo run --release --example sparsify -- --scheme int8 --text TEXT --output DIR
//! ```
//! finds thresholds on the first tokens of the text, one for each projection of the decoder blocks,
//! so that a token leaves out `--sparsity` of the weights: every projection as much (`uniform`), or
//! where a block's output changes least (`block`: every block as much; `greedy`: over all blocks).
//! The rest of the text, never the tokens that thresholds were found on, then tells the price, by two
//! protocols:
//!
//! - all tokens: every token of a window is run by the sparse model;
//! - second half: the first half of each window is run by the dense model, as a prompt would be, and
//!   the second half, which alone is scored, by the sparse one. This is the protocol of TEAL's paper.
//!
//! It prints a Markdown table, or JSON with `--json`, and writes to DIR a file of thresholds for each
//! line of the table (every program that opens a model takes them as `--thresholds`), `sparsify.json`,
//! and the plot `sparsify.svg`. With DIR the model's own folder they stand beside the checkpoint.
//! `--thresholds FILE` measures a file that was written before; it is refused for another model.
//!
//! `--gates` adds a line of another method, CATS: thresholds behind the gates of the feed-forward parts,
//! whose `--sparsity` is of the gates. What a closed gate saves is at most a third of such a part.
//!
//! Without `--text` a short built-in one is used, too short for numbers to be quoted. A model of 135
//! million parameters, the default, loses more than one of 9 billion at the same sparsity.
//!
//! Ctrl-C ends with what is measured by then.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lightglm::checkpoint;
use lightglm::evaluate::{first_tokens, read_text};
use lightglm::sparse::{
    Allocation, ComparedThresholds, SparseQuality, Sparsify, SparsifyReport, WantedThresholds,
};
use lightglm::{Device, Error, Policy, SMALL_MODEL, Scheme, write_whole};
use lightglm_examples::model_args::device;
use lightglm_examples::sparsity_plot::plot;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use serde::Serialize;

/// A few paragraphs in English and Chinese.
const TEXT: &str = include_str!("text/english_and_chinese.txt");

#[derive(Parser)]
#[command(about = "Make a quantized model sparse, and measure it")]
struct Args {
    /// A folder, a .gguf file, or a hub id; smollm2-135m-instruct if omitted.
    #[arg(long, default_value = SMALL_MODEL)]
    model: String,
    /// Quantize a dense model while loading: int8, int4, int8wo, ... (int8 if omitted).
    #[arg(long)]
    scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// Calibrate and measure on this text, plain, gzipped or zstd.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Fractions of the blocks' weights (with --gates: of the gates) that a token does without.
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.4,0.5")]
    sparsity: Vec<f64>,
    /// How sparsity is shared out among projections: uniform, block, greedy; several are compared
    /// (block if neither this nor --gates is given).
    #[arg(long, value_delimiter = ',')]
    allocation: Vec<Allocation>,
    /// Thresholds for the gates of feed-forward parts (CATS).
    #[arg(long)]
    gates: bool,
    /// Measure this file of thresholds instead of calibrating.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sparsity", "allocation", "gates"])]
    thresholds: Option<PathBuf>,
    /// Calibrate on at most this many tokens, and at most half of the text.
    #[arg(long, default_value_t = 2048)]
    calibration_tokens: usize,
    /// Tokens the model sees at once.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Measure on at most this many windows.
    #[arg(long, default_value_t = 8)]
    limit: usize,
    /// The folder for thresholds, plot and JSON.
    #[arg(long, default_value = "sparsify")]
    output: PathBuf,
    /// Where to run: cpu, wgpu, cuda.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    model: String,
    scheme: String,
    text: String,
    calibration_tokens: usize,
    context: usize,
    threads: usize,
    rows: Vec<ComparedThresholds>,
    interrupted: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let threads = use_threads(args.threads)?;
    for sparsity in &args.sparsity {
        ensure!((0.0..=1.0).contains(sparsity), "--sparsity {sparsity} is not between 0 and 1");
    }
    ensure!(args.limit > 0, "--limit must be at least 1");
    ensure!(args.context > 1, "--context must be at least 2");
    ensure!(args.calibration_tokens > 0, "--calibration-tokens must be at least 1");
    let text = match &args.text {
        Some(file) => read_text(file)?,
        None => TEXT.to_owned(),
    };
    let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
    let checkpoint = checkpoint::open(&args.model, &progress)?;
    let context = args.context.min(checkpoint.config().context_length());
    let most = args.limit.saturating_mul(context).saturating_add(args.calibration_tokens);
    let tokens = first_tokens(&checkpoint.tokenizer()?, &text, most)?;
    let (calibration, check) = split(&tokens, &args, context)?;
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let mut allocations = args.allocation.clone();
    if args.gates && !allocations.contains(&Allocation::Gates) {
        allocations.push(Allocation::Gates);
    }
    if allocations.is_empty() {
        allocations.push(Allocation::Block);
    }
    let wanted = match &args.thresholds {
        Some(file) => WantedThresholds::File(file),
        None => WantedThresholds::New {
            allocations: &allocations,
            sparsities: &args.sparsity,
            folder: &args.output,
        },
    };
    let sparsify = Sparsify {
        checkpoint: &checkpoint,
        policy: args.policy.clone().or(args.scheme.map(Policy::uniform)),
        device: args.device,
        calibration,
        check,
        context,
        progress,
    };
    let mut report = SparsifyReport::default();
    let finished = sparsify.run(wanted, &mut report);
    let done = report.rows.len();
    let interrupted = matches!(finished, Err(Error::Interrupted { .. })) && done > 0;
    if !interrupted {
        finished?;
    }
    let outcome = Outcome {
        scheme: report.scheme,
        text: text_name(&args).unwrap_or("built-in".into()),
        calibration_tokens: calibration.len(),
        context,
        threads,
        rows: report.rows,
        interrupted,
        model: args.model,
    };
    write(&args.output, &outcome)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => print!("{}", table(&outcome)),
    }
    ensure!(!outcome.interrupted, "interrupted after {done} lines of the table");
    Ok(())
}

fn text_name(args: &Args) -> Option<String> {
    args.text.as_ref().map(|file| file.display().to_string())
}

/// The tokens to calibrate on, and those to measure on.
fn split<'a>(tokens: &'a [u32], args: &Args, context: usize) -> Result<(&'a [u32], &'a [u32])> {
    let (calibration, rest) = tokens.split_at(args.calibration_tokens.min(tokens.len() / 2));
    ensure!(
        !calibration.is_empty() && rest.len() >= context / 2 + 2,
        "{}: {} tokens are too few to calibrate on and to measure windows of {context} on",
        text_name(args).unwrap_or("the built-in text".into()),
        tokens.len()
    );
    Ok((calibration, &rest[..rest.len().min(args.limit.saturating_mul(context))]))
}

/// `sparsify.json` and `sparsify.svg`.
fn write(folder: &Path, outcome: &Outcome) -> Result<()> {
    let json = format!("{}\n", serde_json::to_string_pretty(outcome)?);
    write_whole(&folder.join("sparsify.json"), &json)?;
    let rows = outcome.rows.iter().map(|row| (row.allocation.as_str(), &row.comparison));
    let title = format!("{} in {}", outcome.model, outcome.scheme);
    write_whole(&folder.join("sparsify.svg"), plot(&title, &rows.collect::<Vec<_>>())?)?;
    Ok(())
}

fn table(outcome: &Outcome) -> String {
    let Outcome { model, scheme, text, calibration_tokens, context, threads, .. } = outcome;
    let mut table = format!(
        "{model} in {scheme}; {text}: {calibration_tokens} tokens to calibrate, windows of {context}; \
         {threads} threads\n\n\
         | allocation | aimed | counted | tokens | perplexity | KL divergence | top-1 | \
         second half: perplexity | KL divergence | top-1 | tokens/s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for ComparedThresholds { allocation, comparison: row, .. } in &outcome.rows {
        let quality = |q: &SparseQuality| {
            let (rise, top1) = (100.0 * q.perplexity_rise, 100.0 * q.top1_agreement);
            format!(
                "{:.2} beside {:.2}, {rise:+.1} % | {:.3} ± {:.3} | {top1:.1} %",
                q.perplexity, q.dense_perplexity, q.kl_divergence, q.kl_divergence_standard_error
            )
        };
        let (before, after) = (row.dense_decode_tokens_per_s, row.decode_tokens_per_s);
        table += &format!(
            "| {} | {:.1} % | {:.1} % | {} | {} | {} | {after:.1} beside {before:.1}, {:.2} x |\n",
            allocation,
            100.0 * row.sparsity_aimed,
            100.0 * row.sparsity_counted,
            row.all_tokens.tokens,
            quality(&row.all_tokens),
            quality(&row.second_half),
            after / before,
        );
    }
    table
}
