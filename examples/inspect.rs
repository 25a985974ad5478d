//! What is in a checkpoint, and which device does it fit?
//!
//! `cargo run --release --example inspect -- --model PATH` prints the configuration, the parameters,
//! the bytes in each precision, and for some devices how many tokens of cache fit beside the weights.
//! Only headers are read. `--tensors` lists every tensor, `--json` prints one object.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lightglm::DEFAULT_MODEL;
use lightglm::checkpoint::{self, Checkpoint, Summary};
use lightglm_examples::progress_bar;
use serde::Serialize;

/// Share of a device's memory that weights and cache may take; the rest is for the system, the
/// activations and the allocator.
const USABLE: f64 = 0.9;

#[derive(Parser)]
struct Args {
    /// A folder, a .gguf file, or a hub id; the embedded model if omitted.
    #[arg(long)]
    model: Option<String>,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    precisions: Vec<Precision>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tensors: Vec<Tensor>,
}

/// The model's size in one precision, and what fits where.
#[derive(Serialize)]
struct Precision {
    name: &'static str,
    weight_bytes: u64,
    fits: Vec<Fit>,
}

#[derive(Serialize)]
struct Fit {
    device: String,
    /// Tokens of 16-bit keys and values, of all sequences together, beside the weights; `None`: the
    /// weights alone do not fit.
    context_tokens: Option<u64>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let name = args.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let checkpoint = checkpoint::open(name, &progress_bar::on_stderr())?;
    let report = Report::of(&checkpoint, args.tensors)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print(&checkpoint);
    }
    Ok(())
}

/// `32768`, or what a scaling stretches it to and from where.
fn context(summary: &Summary) -> String {
    let Summary { context_length, max_position_embeddings: named, rope_scaling, .. } = summary;
    match rope_scaling.as_str() {
        "default" => context_length.to_string(),
        scaling => format!("{context_length} ({named} named, rotary {scaling})"),
    }
}

impl Report {
    fn of(checkpoint: &Checkpoint, list: bool) -> Result<Self> {
        let shapes = checkpoint.config().tensor_shapes().into_iter();
        let tensors = match list {
            true => shapes.map(|(name, shape)| Tensor { name, shape }).collect(),
            false => Vec::new(),
        };
        let summary = Summary::of(checkpoint)?;
        let devices = devices();
        // INT4: 4 bits and one f16 scale a group of 128.
        let bits = [("f32", 32.0), ("bf16 / f16", 16.0), ("int8", 8.0), ("int4 g128", 4.125)];
        let precision = |(name, bits)| {
            let fits = devices.iter().map(|(device, memory)| Fit {
                device: device.clone(),
                context_tokens: summary.context_tokens(bits, (*memory as f64 * USABLE) as u64),
            });
            Precision { name, weight_bytes: summary.weight_bytes(bits), fits: fits.collect() }
        };
        let precisions = bits.into_iter().map(precision).collect();
        Ok(Self { summary, precisions, tensors })
    }
}

/// Names and bytes of memory.
fn devices() -> Vec<(String, u64)> {
    const GIB: u64 = 1 << 30;
    let mut devices = vec![("T4 16 GB".into(), 16 * GIB), ("Orin 32 GB".into(), 32 * GIB)];
    if let Some(memory) = machine_memory() {
        devices.push((format!("this machine {} GB", memory.div_ceil(GIB)), memory));
    }
    devices
}

/// Bytes of memory of this machine, where the system tells.
fn machine_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl Report {
    fn print(&self, checkpoint: &Checkpoint) {
        let (summary, config) = (&self.summary, checkpoint.config());
        println!("{}", summary.path);
        for problem in &summary.problems {
            println!("  PROBLEM: {problem}");
        }
        println!(
            "  {}: {} layers, hidden {}, FFN {}, {} heads / {} kv heads of {}, vocab {}, context {}",
            summary.model_type,
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.vocab_size,
            context(summary),
        );
        println!(
            "  rotary {} of {} dimensions, theta {}; qkv bias {}; head {}; end ids {:?}",
            config.rotary_dim(),
            config.head_dim,
            config.rope.rope_theta,
            if config.attention_bias { "yes" } else { "no" },
            if config.tie_word_embeddings { "tied" } else { "own" },
            summary.eos_token_ids,
        );
        if !summary.unused_generation_keys.is_empty() {
            let unused = summary.unused_generation_keys.join(", ");
            println!("  not used of generation_config.json: {unused}");
        }
        println!(
            "  {:.3} B parameters, {:.3} B read per token; keys and values {} bytes per token in 16 bits",
            summary.parameters as f64 / 1e9,
            summary.parameters_read_per_token as f64 / 1e9,
            summary.kv_bytes_per_token_16_bit,
        );
        for (dtype, stored) in &summary.stored {
            // Of a packed matrix these are codes and scales, not parameters.
            let what = if summary.quantized.is_some() { "elements" } else { "parameters" };
            println!(
                "  stored as {dtype}: {} tensors, {} {what}",
                stored.tensors, stored.parameters
            );
        }
        if let Some(quantized) = &summary.quantized {
            println!(
                "  quantized ({}): {:.3} bits per weight, {:.2} GB",
                quantized.policy,
                quantized.bits_per_weight,
                quantized.weight_bytes as f64 / 1e9
            );
            for (scheme, count) in &quantized.schemes {
                println!("    {count} x {scheme}");
            }
        }
        println!(
            "\n  {:<12}{:>12}   tokens of 16-bit keys and values, all sequences together, that fit beside them",
            "", "weights"
        );
        for precision in &self.precisions {
            let gb = precision.weight_bytes as f64 / 1e9;
            print!("  {:<12}{gb:>9.2} GB", precision.name);
            for fit in &precision.fits {
                match fit.context_tokens {
                    Some(tokens) => print!("   {}: {tokens}", fit.device),
                    None => print!("   {}: no", fit.device),
                }
            }
            println!();
        }
        for tensor in &self.tensors {
            println!("  {:<60} {:?}", tensor.name, tensor.shape);
        }
    }
}
