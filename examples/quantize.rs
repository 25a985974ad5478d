//! A model in, a smaller model out, and what that costs.
//!
//! ```text
//! cargo run --release --example quantize -- --model MODEL --scheme int8 OUT_DIR
//! cargo run --release --example quantize -- --model MODEL --policy "lm_head=int8,*=int4wo-g64" OUT_DIR
//! ```
//! writes a folder that `chat`, `bench` and `evaluate` take as `--model`, and prints bytes, perplexity,
//! distance from the original and speed before and after, measured on a small English and Chinese
//! text that comes with the program, or on `--text FILE`.
//! Codes are rounded to nearest. `--method gptq --calibration TEXT` chooses them on a text instead,
//! which INT4 needs. A LoRA `--adapter` is added to the weights before. Ctrl-C stops, and leaves what was there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use lightglm::checkpoint::{self, Checkpoint};
use lightglm::evaluate::{Protocol, TextOptions, first_tokens};
use lightglm::quantize::{Codes, Footprint, QuantizeOptions, quantize};
use lightglm::speed::decode_speeds;
use lightglm::{Error, KvDtype, LoadOptions, Model, Policy, ProgressSink, SMALL_MODEL, Scheme};
use lightglm_examples::adapter_args::AdapterArgs;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
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
    /// A folder, a .gguf file, or a hub id; smollm2-135m-instruct if omitted.
    #[arg(long)]
    model: Option<String>,
    /// One scheme for all: int8, int4, int8wo, int4wo-g64, w8a8, ... (int8 if omitted).
    #[arg(long)]
    scheme: Option<Scheme>,
    /// A scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// How codes are chosen: nearest, clip, gptq, gptq-matched. All but `nearest` need --calibration.
    #[arg(long, default_value = "nearest", value_parser = ["nearest", "clip", "gptq", "gptq-matched"])]
    method: String,
    /// Calibrate on this text, which is run through the model: real text of the kind that it will see.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Calibrate on at most this many tokens of the text.
    #[arg(long, default_value_t = 8192)]
    calibration_tokens: usize,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Replace what is in the folder.
    #[arg(long)]
    force: bool,
    /// Measure on this text instead of the built-in one.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Measure on at most this many tokens of the text.
    #[arg(long, default_value_t = 4096)]
    limit: usize,
    /// Only write, measure nothing.
    #[arg(long)]
    no_eval: bool,
    /// Threads; all that the machine has if omitted.
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
    let text = args.text.as_deref().map_or(Ok(TEXT.to_owned()), |file| read("--text", file))?;
    let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
    let model = args.model.as_deref().unwrap_or(SMALL_MODEL);
    let checkpoint = checkpoint::open(model, &progress)?;
    let tokens = if args.no_eval { Vec::new() } else { tokens(&checkpoint, &text, args.limit)? };
    let policy =
        args.policy.clone().unwrap_or(Policy::uniform(args.scheme.unwrap_or(Scheme::INT8)));
    let (start, codes) = (Instant::now(), codes(&args, &checkpoint)?);
    let (overwrite, bars) = (args.force, progress.clone());
    let adapter = args.adapter.folder()?;
    let options = QuantizeOptions { policy, codes, adapter, overwrite, progress: bars };
    let report = quantize(&checkpoint, &options, &args.out_dir).map_err(|error| match error {
        Error::FolderNotEmpty { .. } => anyhow!("{error} (--force replaces it)"),
        error => error.into(),
    })?;
    let matrices = report.schemes.iter().map(|(scheme, count)| format!("{count} x {scheme}"));
    let mut outcome = Outcome {
        out_dir: args.out_dir.clone(),
        policy: options.policy.to_string(),
        matrices: matrices.collect::<Vec<_>>().join(", "),
        seconds: start.elapsed().as_secs_f64(),
        before: Side::new(report.before),
        after: Side::new(report.after),
        quality: None,
    };
    if !args.no_eval {
        let held = LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() };
        let open = |options| Ok(Model::from_checkpoint(checkpoint, options)?);
        let original = args.adapter.adapted(held.clone(), open)?;
        let quantized = Model::open(&args.out_dir, held)?;
        outcome.measure([&original, &quantized], &text, &tokens, progress)?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => print_table(&outcome),
    }
    Ok(())
}

fn read(flag: &str, file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{flag} {}", file.display()))
}

/// What speed and quality are measured on.
fn tokens(checkpoint: &Checkpoint, text: &str, limit: usize) -> Result<Vec<u32>> {
    ensure!(limit >= 2, "--limit must be at least 2");
    let tokens = first_tokens(&checkpoint.tokenizer()?, text, limit)?;
    ensure!(tokens.len() >= 2, "the text has {} tokens: nothing to measure on", tokens.len());
    Ok(tokens)
}

/// `--method` with its text.
fn codes(args: &Args, checkpoint: &Checkpoint) -> Result<Codes> {
    let file = match (args.method.as_str(), &args.calibration) {
        ("nearest", None) => return Ok(Codes::Nearest),
        ("nearest", Some(_)) => bail!("--calibration: --method nearest needs no text"),
        (_, None) => bail!("this --method needs a text: --calibration FILE"),
        (_, Some(file)) => file,
    };
    let text = read("--calibration", file)?;
    let tokens = first_tokens(&checkpoint.tokenizer()?, &text, args.calibration_tokens)
        .with_context(|| format!("--calibration {}", file.display()))?;
    Ok(Codes::Calibrated { method: args.method.parse()?, tokens })
}

impl Side {
    fn new(size: Footprint) -> Self {
        let (weight_bytes, bits_per_weight) = (size.bytes, size.bits_per_weight());
        Self { weight_bytes, bits_per_weight, perplexity: None, decode_tokens_per_s: None }
    }
}

impl Outcome {
    /// Fills in what is measured: both models score the same tokens side by side.
    fn measure(
        &mut self,
        [original, quantized]: [&Model; 2],
        text: &str,
        tokens: &[u32],
        progress: ProgressSink,
    ) -> Result<()> {
        let speeds = decode_speeds([original, quantized], tokens, STEPS, &progress)?;
        let context_length = CONTEXT.min(original.config().context_length());
        let protocol =
            Protocol { context_length, stride: context_length, bos: None, context_only: 0 };
        let options = TextOptions { protocol, max_tokens: Some(tokens.len()), progress };
        let result = quantized.kl_divergence(original, text, &options)?;
        let perplexities = [result.reference.perplexity, result.candidate.perplexity];
        for (i, side) in [&mut self.before, &mut self.after].into_iter().enumerate() {
            (side.perplexity, side.decode_tokens_per_s) = (Some(perplexities[i]), Some(speeds[i]));
        }
        self.quality = Some(Quality {
            tokens: result.tokens,
            kl_divergence: result.mean,
            kl_divergence_standard_error: result.standard_error,
            top1_agreement: result.top1_agreement,
            perplexity_change: perplexities[1] / perplexities[0] - 1.0,
        });
        Ok(())
    }
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
    let [p, q] = [before, after].map(|side| number(side.perplexity, 4));
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
