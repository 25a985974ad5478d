//! A model in, a smaller model out, and what that costs.
//!
//! ```text
//! cargo run --release --example quantize -- --model MODEL --scheme int8 OUT_DIR
//! cargo run --release --example quantize -- --model MODEL --policy "lm_head=int8,*=int4wo-g64" OUT_DIR
//! ```
//! writes a folder that `chat`, `bench` and `evaluate` take as `--model`, and prints bytes, perplexity,
//! distance from the original and speed before and after, measured on a small English and Chinese
//! text that comes with the program, or on `--text FILE`.
//!
//! Codes are rounded to nearest. `--method gptq --calibration TEXT` chooses them on a text instead,
//! which INT4 needs.
//!
//! The folder gets its config.json last, so that an unfinished one is no model; Ctrl-C stops and
//! leaves no half file.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn_flex::{Flex, FlexDevice};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::speed::decode_speeds;
use lightglm_core::{CausalLm, KvCache};
use lightglm_core::{KvDtype, KvShape};
use lightglm_eval::{Protocol, Subject, kl_divergence};
use lightglm_examples::calibrated::{Method, calibrated};
use lightglm_examples::model_folder::ModelFolder;
use lightglm_examples::serving::{Served, describe, matrices, policy_of, serve, weights_bar};
use lightglm_examples::{open_model, use_threads};
use lightglm_generation::{ContiguousKvCache, RunControl};
use lightglm_kernels::QuantizedMatrix;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{
    CheckpointQuantizer, DenseMatrix, Footprint, Policy, QuantizedCheckpoint, Scheme,
    round_to_nearest,
};
use serde::Serialize;

/// What quality is measured on where no text is given: a few paragraphs in English and Chinese.
const TEXT: &str = include_str!("text/english_and_chinese.txt");

/// Tokens the model sees at once.
const CONTEXT: usize = 512;

/// Decode steps that speed is measured on.
const STEPS: usize = 16;

#[derive(Parser)]
#[command(about = "Quantize a model")]
struct Args {
    /// The folder to write.
    out_dir: PathBuf,
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// One scheme for all: int8, int4, int8wo, int4wo-g64, w8a8, ... (int8 where left out).
    #[arg(long)]
    scheme: Option<Scheme>,
    /// A scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...")]
    policy: Option<Policy>,
    /// How codes are chosen; all but `nearest` run the calibration text through the model.
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// Calibrate on this text: real text of the kind the model will see. Needed by all methods but
    /// `nearest`.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Calibrate on so many tokens of the text at most.
    #[arg(long, default_value_t = 8192)]
    calibration_tokens: usize,
    /// Replace what is in the folder.
    #[arg(long)]
    force: bool,
    /// Measure on this text instead of the built-in one.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Measure on so many tokens of the text at most.
    #[arg(long, default_value_t = 4096)]
    limit: usize,
    /// Only write, measure nothing.
    #[arg(long)]
    no_eval: bool,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    out_dir: PathBuf,
    policy: String,
    matrices: String,
    seconds: f64,
    before: Side,
    after: Side,
    quality: Option<Quality>,
}

/// The model before or after.
#[derive(Serialize)]
struct Side {
    weight_bytes: u64,
    bits_per_weight: f64,
    perplexity: Option<f64>,
    decode_tokens_per_s: Option<f64>,
}

/// How far the quantized model is from the original.
#[derive(Serialize)]
struct Quality {
    tokens: usize,
    kl_divergence: f64,
    kl_divergence_standard_error: f64,
    top1_agreement: f64,
    perplexity_change: f64,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let policy = policy_of(args.scheme, args.policy.clone())?;
    let policy = policy.unwrap_or(Policy::uniform(Scheme::INT8));
    let text = match &args.text {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("--text {}", file.display()))?
        }
        None => TEXT.to_owned(),
    };
    let checkpoint = open_model(args.model.as_deref())?;
    ensure!(
        !QuantizedCheckpoint::is_one(checkpoint.weights()),
        "{}: is quantized already",
        checkpoint.path().display()
    );
    let tokens = match args.no_eval {
        true => Vec::new(),
        false => tokens(&checkpoint, &text, args.limit)?,
    };
    check_folder(&args.out_dir, checkpoint.path(), args.force)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;

    let start = Instant::now();
    let codes = match (args.method, &args.calibration) {
        (Method::Nearest, None) => BTreeMap::new(),
        (Method::Nearest, Some(_)) => bail!("--calibration: --method nearest needs no text"),
        (_, None) => bail!("this --method needs a text: --calibration FILE"),
        (method, Some(file)) => {
            let what = || format!("--calibration {}", file.display());
            let text = std::fs::read_to_string(file).with_context(what)?;
            let mut text = checkpoint.tokenizer()?.encode_text(&text).with_context(what)?;
            text.truncate(args.calibration_tokens);
            calibrated(&checkpoint, &policy, method, &text, &stop).with_context(what)?
        }
    };
    write(&checkpoint, &policy, &codes, &args.out_dir, &stop)?;
    let seconds = start.elapsed().as_secs_f64();
    let (before, after) = sizes(&checkpoint, &args.out_dir)?;
    let side = |size: Footprint| Side {
        weight_bytes: size.bytes,
        bits_per_weight: size.bits_per_weight(),
        perplexity: None,
        decode_tokens_per_s: None,
    };
    let mut outcome = Outcome {
        out_dir: args.out_dir.clone(),
        policy: policy.to_string(),
        matrices: describe(&policy, checkpoint.config()),
        seconds,
        before: side(before),
        after: side(after),
        quality: None,
    };
    if !args.no_eval {
        measure(&checkpoint, &args.out_dir, &tokens, &stop, &mut outcome)?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => print_table(&outcome),
    }
    Ok(())
}

fn tokens(checkpoint: &Checkpoint, text: &str, limit: usize) -> Result<Vec<u32>> {
    ensure!(limit >= 2, "--limit must be at least 2");
    let mut tokens = checkpoint.tokenizer()?.encode_text(text)?;
    ensure!(tokens.len() >= 2, "the text has {} tokens: nothing to measure on", tokens.len());
    tokens.truncate(limit);
    Ok(tokens)
}

/// Refuses a folder that holds something, unless told otherwise, and the model's own in any case.
fn check_folder(folder: &Path, model: &Path, force: bool) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    if folder.canonicalize().ok() == model.canonicalize().ok() {
        bail!("{}: is the model itself", folder.display());
    }
    let empty = entries.count() == 0;
    ensure!(empty || force, "{}: is not empty (--force replaces it)", folder.display());
    Ok(())
}

/// Writes the folder: weights, text side, config.json last.
fn write(
    checkpoint: &Checkpoint,
    policy: &Policy,
    codes: &BTreeMap<String, QuantizedMatrix>,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    let config = checkpoint.config();
    let tensors = config.tensor_shapes();
    let new = !folder.exists();
    let output = ModelFolder::begin(folder, checkpoint, Some(policy))?;
    let elements = |(_, shape): &(String, Vec<usize>)| shape.iter().product::<usize>() as u64;
    let bar = weights_bar(tensors.iter().map(elements).sum())?;
    let progress = |weights| {
        bar.inc(weights);
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let chosen = |dense: &DenseMatrix<'_>| match codes.get(dense.name) {
        Some(matrix) => Ok(matrix.clone()),
        None => round_to_nearest(dense.name, dense.weight, dense.shape, &dense.scheme.weight),
    };
    let mut quantizer = CheckpointQuantizer::new(checkpoint.weights(), checkpoint.path(), policy);
    if !codes.is_empty() {
        quantizer = quantizer.with_method(&chosen);
    }
    let saved = quantizer.with_progress(&progress).save(&output.weights(), &tensors);
    bar.finish_and_clear();
    if let Err(error) = saved {
        if new {
            // Ours, and empty: nothing was written.
            let _ = std::fs::remove_dir(folder);
        }
        return Err(error).with_context(|| format!("{} was not written", folder.display()));
    }
    Ok(output.finish()?)
}

/// What the matrices take before and after.
fn sizes(checkpoint: &Checkpoint, folder: &Path) -> Result<(Footprint, Footprint)> {
    let (source, mut before) = (checkpoint.weights(), Footprint::default());
    for (name, [n, k]) in matrices(checkpoint.config()) {
        let name = format!("{name}.weight");
        // A GGUF file may keep rows of one matrix in several types; it then comes as f32.
        let bytes = match source.stored(&name) {
            Ok(stored) => stored.parts.iter().map(|part| part.len() as u64).sum::<u64>(),
            Err(_) => source.tensor(&name)?.bytes.len() as u64,
        };
        before.weights += n as u64 * k as u64;
        before.bytes += bytes;
    }
    let written = Checkpoint::open(folder)?;
    let after = QuantizedCheckpoint::open(written.weights(), folder)?.footprint()?;
    Ok((before, after))
}

/// Fills in what is measured: both models score the same tokens side by side.
fn measure(
    checkpoint: &Checkpoint,
    folder: &Path,
    tokens: &[u32],
    stop: &AtomicBool,
    outcome: &mut Outcome,
) -> Result<()> {
    let quantized = Checkpoint::open(folder)?;
    let original: Served<Flex> = serve(checkpoint, None, None, &FlexDevice)?;
    let candidate: Served<Flex> = serve(&quantized, None, None, &FlexDevice)?;
    let config = checkpoint.config();
    let style = "measuring {bar:40} {pos}/{len} tokens, {eta} left";
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style)?);
    let mut progress = |scored, total| {
        bar.set_length(total as u64);
        bar.set_position(scored as u64);
    };
    let context_length = CONTEXT.min(config.max_position_embeddings);
    let protocol = Protocol { context_length, stride: context_length, bos: None, context_only: 0 };
    let mut of_original = |positions| {
        let (shape, dtype) = (KvShape::of(config), KvDtype::F32);
        let cache = ContiguousKvCache::new(shape, 1, positions, dtype, &FlexDevice);
        Ok(Box::new(cache) as Box<dyn KvCache<Flex>>)
    };
    let mut of_candidate = of_original;
    let (p, q) = (&*original.model, &*candidate.model);
    let result = kl_divergence(
        &mut Subject::new(p as &dyn CausalLm<Flex>, &mut of_original),
        &mut Subject::new(q as &dyn CausalLm<Flex>, &mut of_candidate),
        tokens,
        &protocol,
        &mut RunControl { progress: Some(&mut progress), stop: Some(stop), ..Default::default() },
    )?;
    bar.finish_and_clear();
    outcome.before.perplexity = Some(result.reference.perplexity);
    outcome.after.perplexity = Some(result.candidate.perplexity);
    outcome.quality = Some(Quality {
        tokens: result.tokens,
        kl_divergence: result.mean,
        kl_divergence_standard_error: result.standard_error,
        top1_agreement: result.top1_agreement,
        perplexity_change: result.candidate.perplexity / result.reference.perplexity - 1.0,
    });
    let [p, q] = decode_speeds([p, q], config, tokens, STEPS, stop, &FlexDevice)?;
    (outcome.before.decode_tokens_per_s, outcome.after.decode_tokens_per_s) = (Some(p), Some(q));
    Ok(())
}

fn print_table(o: &Outcome) {
    println!("{} in {:.1} s: {} ({})", o.out_dir.display(), o.seconds, o.policy, o.matrices);
    let number = |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
    let percent = |change: f64| format!("{:+.2} %", 100.0 * change);
    let row = |name: &str, before: String, after: String, change: String| {
        println!("  {name:<18}{before:>14}{after:>14}   {change}");
    };
    let (before, after) = (&o.before, &o.after);
    row("", "before".into(), "after".into(), String::new());
    let megabytes = |side: &Side| format!("{:.1} MB", side.weight_bytes as f64 / 1e6);
    let smaller = before.weight_bytes as f64 / after.weight_bytes.max(1) as f64;
    row("weights", megabytes(before), megabytes(after), format!("{smaller:.2} x smaller"));
    let bits = |side: &Side| format!("{:.3}", side.bits_per_weight);
    row("bits per weight", bits(before), bits(after), String::new());
    let Some(quality) = &o.quality else { return };
    let perplexities = [before, after].map(|side| number(side.perplexity, 4));
    let [p, q] = perplexities;
    row("perplexity", p, q, percent(quality.perplexity_change));
    let [p, q] = [before, after].map(|side| number(side.decode_tokens_per_s, 1));
    let faster = after.decode_tokens_per_s.zip(before.decode_tokens_per_s);
    let faster = faster.map_or(String::new(), |(q, p)| format!("{:.2} x", q / p));
    row("decode tokens/s", p, q, faster);
    println!(
        "  over {} tokens: KL divergence {:.5} ± {:.5} nats, the same first choice {:.2} %",
        quality.tokens,
        quality.kl_divergence,
        quality.kl_divergence_standard_error,
        100.0 * quality.top1_agreement,
    );
}
