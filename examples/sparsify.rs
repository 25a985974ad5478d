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
//! line of the table (`evaluate --thresholds` takes them), `sparsify.json`, and the plot `sparsify.svg`.
//! With DIR the model's own folder they stand beside the checkpoint. `--thresholds FILE` measures a
//! file that was written before; it is refused for another model.
//!
//! Without `--text` a short built-in one is used, too short for numbers to be quoted. A model of 135
//! million parameters, the default, loses more than one of 9 billion at the same sparsity.
//!
//! Ctrl-C ends with what is measured by then.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use burn_flex::{Flex, FlexDevice};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{CausalLm, KvCache, KvCacheError};
use lightglm_core::{KvDtype, KvShape};
use lightglm_eval::data::read_text;
use lightglm_eval::{EvalError, KlDivergence, Protocol, Subject, kl_divergence};
use lightglm_examples::block_errors::BlockErrors;
use lightglm_examples::decode_speed::decode_speeds;
use lightglm_examples::serving::{Quantized, QuantizedGlm, policy_of, quantized};
use lightglm_examples::sparse_model::{
    SHORTEST_RUN, calibrated, count, fingerprint, masked, sparsity_in_blocks,
};
use lightglm_examples::sparsity_plot::{Line, Panel, svg};
use lightglm_examples::text_quality::first_tokens;
use lightglm_examples::whole_file::write_whole;
use lightglm_examples::{open_model, stop_on_ctrl_c, use_threads};
use lightglm_generation::{ContiguousKvCache, RunControl};
use lightglm_hub::DEFAULT_MODEL;
use lightglm_model::config::GlmConfig;
use lightglm_quant::{Policy, QuantizedCheckpoint, Scheme};
use lightglm_sparse::{ActivationStatistics, Thresholds};
use serde::Serialize;

/// A few paragraphs in English and Chinese.
const TEXT: &str = include_str!("text/english_and_chinese.txt");

/// Tokens that block errors are measured on: each is run some forty times.
const ALLOCATION_TOKENS: usize = 512;

/// Decode steps that speed is measured on.
const STEPS: usize = 48;

#[derive(Parser)]
#[command(about = "Make a quantized model sparse, and measure it")]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// Quantize a dense model while loading: int8, int4, int8wo, ... (int8 where left out).
    #[arg(long)]
    scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// Calibrate and measure on this text, plain, gzipped or zstd.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Fractions of the blocks' weights that a token does without.
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.4,0.5")]
    sparsity: Vec<f64>,
    /// How sparsity is shared out among projections; several are compared.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "block")]
    allocation: Vec<Allocation>,
    /// Measure this file of thresholds instead of calibrating.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sparsity", "allocation"])]
    thresholds: Option<PathBuf>,
    /// Calibrate on so many tokens, half of the text at most.
    #[arg(long, default_value_t = 2048)]
    calibration_tokens: usize,
    /// Tokens the model sees at once.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Measure on so many windows at most.
    #[arg(long, default_value_t = 8)]
    limit: usize,
    /// The folder for thresholds, plot and JSON.
    #[arg(long, default_value = "sparsify")]
    output: PathBuf,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// How a sparsity becomes one for each projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Allocation {
    /// The same for all.
    Uniform,
    /// Each block as much, its projections by their errors.
    Block,
    /// All projections of all blocks by their errors.
    Greedy,
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
    rows: Vec<Row>,
    interrupted: bool,
}

/// One sparse model.
#[derive(Serialize)]
struct Row {
    allocation: String,
    sparsity_aimed: f64,
    /// Over the scored text, all tokens sparse.
    sparsity_counted: f64,
    all_tokens: Quality,
    second_half: Quality,
    dense_decode_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    thresholds: PathBuf,
}

/// The sparse model beside the dense one.
#[derive(Serialize)]
struct Quality {
    tokens: usize,
    dense_perplexity: f64,
    perplexity: f64,
    perplexity_rise: f64,
    kl_divergence: f64,
    kl_divergence_standard_error: f64,
    top1_agreement: f64,
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
    ensure!(args.calibration_tokens > 0, "--calibration-tokens must be at least 1");
    let text = match &args.text {
        Some(file) => read_text(file)?,
        None => TEXT.to_owned(),
    };
    let stop = stop_on_ctrl_c()?;
    let checkpoint = open_model(args.model.as_deref())?;
    let config = checkpoint.config();
    let policy = match QuantizedCheckpoint::is_one(checkpoint.weights()) {
        true => policy_of(args.scheme, args.policy.clone())?,
        false => {
            let given = policy_of(args.scheme, args.policy.clone())?;
            Some(given.unwrap_or(Policy::uniform(Scheme::INT8)))
        }
    };
    let context = args.context.min(config.max_position_embeddings);
    let protocol =
        Protocol { context_length: context, stride: context, bos: None, context_only: 0 };
    protocol.check()?;
    let most = args.limit.saturating_mul(context).saturating_add(args.calibration_tokens);
    let tokens = first_tokens(&checkpoint.tokenizer()?, &text, most)?;
    let (calibration, rest) = split(&tokens, &args, context)?;
    let Quantized { model, scheme, .. } =
        quantized::<Flex>(&checkpoint, policy.as_ref(), &FlexDevice)?;
    let measure =
        Measurement { dense: &model, config, protocol, calibration, tokens: rest, stop: &stop };
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let mut outcome = Outcome {
        model: args.model.clone().unwrap_or(DEFAULT_MODEL.to_owned()),
        scheme,
        text: args.text.as_ref().map_or("built-in".into(), |file| file.display().to_string()),
        calibration_tokens: calibration.len(),
        context,
        threads,
        rows: Vec::new(),
        interrupted: false,
    };
    let finished = measure.all(&args, &mut outcome.rows);
    let done = outcome.rows.len();
    if let Err(error) = finished {
        let interrupted = stop.load(Ordering::Relaxed);
        if !interrupted || done == 0 {
            return Err(error);
        }
        outcome.interrupted = true;
    }
    write(&args.output, &outcome)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => print!("{}", table(&outcome)),
    }
    ensure!(!outcome.interrupted, "interrupted after {done} lines of the table");
    Ok(())
}

/// The tokens to calibrate on, and those to measure on.
fn split<'a>(tokens: &'a [u32], args: &Args, context: usize) -> Result<(&'a [u32], &'a [u32])> {
    let name =
        || args.text.as_ref().map_or("the built-in text".into(), |f| f.display().to_string());
    let (calibration, rest) = tokens.split_at(args.calibration_tokens.min(tokens.len() / 2));
    let least = context / 2 + 2;
    ensure!(
        !calibration.is_empty() && rest.len() >= least,
        "{}: {} tokens are too few to calibrate on and to measure windows of {context} on",
        name(),
        tokens.len()
    );
    Ok((calibration, &rest[..rest.len().min(args.limit.saturating_mul(context))]))
}

/// What is measured, and on what.
struct Measurement<'a> {
    dense: &'a QuantizedGlm<Flex>,
    config: &'a GlmConfig,
    protocol: Protocol,
    calibration: &'a [u32],
    tokens: &'a [u32],
    stop: &'a AtomicBool,
}

impl Measurement<'_> {
    /// Every allocation at every sparsity, or the one file; what is done is in `rows`, also where an
    /// error ends it.
    fn all(&self, args: &Args, rows: &mut Vec<Row>) -> Result<()> {
        let model = fingerprint(self.dense);
        if let Some(file) = &args.thresholds {
            let thresholds = Thresholds::load(file, &model)?;
            rows.push(self.one("file", &thresholds, file.clone())?);
            return Ok(());
        }
        let calibration = self.calibrate()?;
        let errors = match args.allocation.iter().any(|one| *one != Allocation::Uniform) {
            true => Some(self.block_errors(&calibration)?),
            false => None,
        };
        for &allocation in &args.allocation {
            let name = format!("{allocation:?}").to_lowercase();
            for &sparsity in &args.sparsity {
                let shares = match (&errors, allocation) {
                    (Some(errors), Allocation::Block) => errors.allocate_per_block(sparsity)?,
                    (Some(errors), Allocation::Greedy) => errors.allocate_over_all(sparsity)?,
                    _ => Default::default(),
                };
                let share = |name: &str| {
                    let share = shares.get(name).copied();
                    share.unwrap_or_else(|| sparsity_in_blocks(name, sparsity))
                };
                let thresholds = calibration.thresholds(sparsity, share)?;
                let percent = (1e5 * sparsity).round() / 1e3;
                let file = args.output.join(format!("thresholds-{name}-{percent}.json"));
                let row = self.one(&name, &thresholds, file)?;
                thresholds.save(&row.thresholds, &model)?;
                rows.push(row);
            }
        }
        Ok(())
    }

    fn calibrate(&self) -> Result<Arc<ActivationStatistics>> {
        let windows: Vec<&[u32]> = self.calibration.chunks(self.protocol.context_length).collect();
        let bar = bar("calibrating")?;
        bar.set_length(windows.len() as u64);
        let calibration = calibrated(self.dense, &windows, &mut |done| {
            bar.set_position(done as u64);
            self.go_on()
        })?;
        bar.finish_and_clear();
        Ok(calibration)
    }

    fn block_errors(&self, calibration: &ActivationStatistics) -> Result<BlockErrors> {
        let bar = bar("errors of blocks")?;
        let most = ALLOCATION_TOKENS.min(self.protocol.context_length);
        let tokens = &self.calibration[..self.calibration.len().min(most)];
        let errors =
            BlockErrors::measure(self.dense, self.config, calibration, tokens, &mut |total| {
                bar.set_length(total as u64);
                bar.inc(1);
                self.go_on()
            })?;
        bar.finish_and_clear();
        Ok(errors)
    }

    /// The line of the table for `thresholds`.
    fn one(&self, allocation: &str, thresholds: &Thresholds, file: PathBuf) -> Result<Row> {
        let bar = bar(&format!("{allocation} {}", thresholds.sparsity()))?;
        let windows: Vec<&[u32]> = self.tokens.chunks(self.protocol.context_length).collect();
        let counted = count(self.dense, thresholds, &windows, SHORTEST_RUN)?;
        let sparse = masked(self.dense.clone(), thresholds, SHORTEST_RUN)?;
        let all_tokens = self.compare(&*sparse, 0, &bar)?;
        let second_half = self.compare(&*sparse, self.protocol.context_length / 2, &bar)?;
        bar.finish_and_clear();
        let (config, device) = (self.config, &FlexDevice);
        let [dense_speed, speed] =
            decode_speeds([self.dense, &*sparse], config, self.tokens, STEPS, self.stop, device)?;
        Ok(Row {
            allocation: allocation.to_owned(),
            sparsity_aimed: thresholds.sparsity(),
            sparsity_counted: counted.sparsity,
            all_tokens,
            second_half,
            dense_decode_tokens_per_s: dense_speed,
            decode_tokens_per_s: speed,
            thresholds: file,
        })
    }

    /// `sparse` beside the dense model, which also runs the first `prefix` positions of each window
    /// for it; these are not scored.
    fn compare(
        &self,
        sparse: &dyn CausalLm<Flex>,
        prefix: usize,
        bar: &ProgressBar,
    ) -> Result<Quality> {
        let cache = |positions| -> Result<Box<dyn KvCache<Flex>>, KvCacheError> {
            let (shape, dtype) = (KvShape::of(self.config), KvDtype::F32);
            Ok(Box::new(ContiguousKvCache::new(shape, 1, positions, dtype, &FlexDevice)))
        };
        let (mut of_dense, mut of_sparse) = (cache, cache);
        let mut progress = |scored, total| {
            bar.set_length(total as u64);
            bar.set_position(scored as u64);
        };
        let protocol = Protocol { context_only: prefix, ..self.protocol };
        let result: Result<KlDivergence, EvalError> = kl_divergence(
            &mut Subject::new(self.dense, &mut of_dense),
            &mut Subject::new(sparse, &mut of_sparse).with_prefix(prefix, self.dense),
            self.tokens,
            &protocol,
            &mut RunControl {
                progress: Some(&mut progress),
                stop: Some(self.stop),
                ..RunControl::default()
            },
        );
        let result = result?;
        let (dense, sparse) = (result.reference.perplexity, result.candidate.perplexity);
        Ok(Quality {
            tokens: result.tokens,
            dense_perplexity: dense,
            perplexity: sparse,
            perplexity_rise: sparse / dense - 1.0,
            kl_divergence: result.mean,
            kl_divergence_standard_error: result.standard_error,
            top1_agreement: result.top1_agreement,
        })
    }

    fn go_on(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}

fn bar(what: &str) -> Result<ProgressBar> {
    let style = format!("{what} {{bar:40}} {{human_pos}}/{{human_len}} (about {{eta}} to go)");
    Ok(ProgressBar::no_length().with_style(ProgressStyle::with_template(&style)?))
}

/// `sparsify.json` and `sparsify.svg`.
fn write(folder: &Path, outcome: &Outcome) -> Result<()> {
    let json = format!("{}\n", serde_json::to_string_pretty(outcome)?);
    write_whole(&folder.join("sparsify.json"), &json)?;
    write_whole(&folder.join("sparsify.svg"), &plot(outcome)?)
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
    for row in &outcome.rows {
        let quality = |q: &Quality| {
            let (rise, top1) = (100.0 * q.perplexity_rise, 100.0 * q.top1_agreement);
            format!(
                "{:.2} beside {:.2}, {rise:+.1} % | {:.3} ± {:.3} | {top1:.1} %",
                q.perplexity, q.dense_perplexity, q.kl_divergence, q.kl_divergence_standard_error
            )
        };
        let (before, after) = (row.dense_decode_tokens_per_s, row.decode_tokens_per_s);
        table += &format!(
            "| {} | {:.1} % | {:.1} % | {} | {} | {} | {after:.1} beside {before:.1}, {:.2} x |\n",
            row.allocation,
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

type OfRow = fn(&Row) -> &Quality;

/// Three panels; every line starts at the dense model.
fn plot(outcome: &Outcome) -> Result<String> {
    let mut allocations: Vec<&str> = Vec::new();
    for row in &outcome.rows {
        if !allocations.contains(&row.allocation.as_str()) {
            allocations.push(&row.allocation);
        }
    }
    let line = |colour: usize, protocol: &str, dense: f64, value: &dyn Fn(&Row) -> f64| {
        let allocation = allocations[colour];
        let rows = outcome.rows.iter().filter(|row| row.allocation == allocation);
        let mut points: Vec<(f64, f64)> =
            rows.map(|row| (row.sparsity_counted, value(row))).collect();
        points.push((0.0, dense));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = format!("{allocation}{protocol}");
        Line { name, colour, dashed: protocol.ends_with("half"), points }
    };
    // A shared machine changes its speed from line to line; the two models of a line took turns.
    let mut speeds: Vec<f64> = outcome.rows.iter().map(|r| r.dense_decode_tokens_per_s).collect();
    speeds.sort_by(f64::total_cmp);
    let dense_speed = speeds.get(speeds.len() / 2).copied().unwrap_or_default();
    let scaled = |row: &Row| dense_speed * row.decode_tokens_per_s / row.dense_decode_tokens_per_s;
    let (mut perplexity, mut divergence, mut speed) = (Vec::new(), Vec::new(), Vec::new());
    for (colour, &allocation) in allocations.iter().enumerate() {
        let Some(row) = outcome.rows.iter().find(|row| row.allocation == allocation) else {
            continue;
        };
        let protocols: [(&str, OfRow); 2] =
            [(", all tokens", |row| &row.all_tokens), (", second half", |row| &row.second_half)];
        for (protocol, of) in protocols {
            let dense = of(row).dense_perplexity;
            perplexity.push(line(colour, protocol, dense, &|row| of(row).perplexity));
            divergence.push(line(colour, protocol, 0.0, &|row| of(row).kl_divergence));
        }
        speed.push(line(colour, "", dense_speed, &scaled));
    }
    let panel = |title: &str, from_zero, lines| Panel { title: title.to_owned(), from_zero, lines };
    let panels = [
        panel("perplexity", false, perplexity),
        panel("KL divergence from the dense model (nats)", true, divergence),
        panel("decode speed (tokens/s)", true, speed),
    ];
    svg(&format!("{} in {}", outcome.model, outcome.scheme), &panels)
}
