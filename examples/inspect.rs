//! What is in a checkpoint, and which device does it fit?
//!
//! `cargo run --release --example inspect -- --model PATH` prints the configuration, the parameters,
//! the bytes in each precision, and for some devices how many tokens of cache fit beside the weights.
//! Only headers are read. `--tensors` lists every tensor, `--json` prints one object.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lightglm_examples::open_model;
use lightglm_model::checkpoint::{Checkpoint, Stored};
use lightglm_model::config::GlmConfig;
use lightglm_quant::QuantizedCheckpoint;
use serde::Serialize;

/// Share of a device's memory that weights and cache may take; the rest is for the system, the
/// activations and the allocator.
const USABLE: f64 = 0.9;

#[derive(Parser)]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    path: String,
    model_type: String,
    parameters: u64,
    parameters_read_per_token: u64,
    stored: BTreeMap<String, Stored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantized: Option<Quantized>,
    kv_bytes_per_token_16_bit: u64,
    max_position_embeddings: usize,
    vocab_size: usize,
    eos_token_ids: Vec<u32>,
    precisions: Vec<Precision>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tensors: Vec<Tensor>,
}

/// What a quantized checkpoint says of its matrices.
#[derive(Serialize)]
struct Quantized {
    policy: String,
    weight_bytes: u64,
    bits_per_weight: f64,
    /// Matrices of each scheme, spelled out.
    schemes: BTreeMap<String, usize>,
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
    let checkpoint = open_model(args.model.as_deref())?;
    let report = report(&checkpoint, args.tensors)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, checkpoint.config());
    }
    Ok(())
}

fn report(checkpoint: &Checkpoint, list: bool) -> Result<Report> {
    let config = checkpoint.config();
    let shapes = config.tensor_shapes().into_iter();
    let tensors = match list {
        true => shapes.map(|(name, shape)| Tensor { name, shape }).collect(),
        false => Vec::new(),
    };
    let parameters = config.num_parameters();
    let kv = config.kv_bytes_per_token(2);
    let devices = devices();
    // INT4: 4 bits and one f16 scale a group of 128.
    let bits = [("f32", 32.0), ("bf16 / f16", 16.0), ("int8", 8.0), ("int4 g128", 4.125)];
    let precisions = bits
        .into_iter()
        .map(|(name, bits)| {
            let weight_bytes = (parameters as f64 * bits / 8.0) as u64;
            let fits = devices.iter().map(|(device, memory)| {
                let room = (*memory as f64 * USABLE) as u64;
                let context_tokens = room.checked_sub(weight_bytes).map(|rest| rest / kv.max(1));
                Fit { device: device.clone(), context_tokens }
            });
            Precision { name, weight_bytes, fits: fits.collect() }
        })
        .collect();
    Ok(Report {
        path: checkpoint.path().display().to_string(),
        model_type: format!("{:?}", config.model_type).to_lowercase(),
        parameters,
        parameters_read_per_token: config.parameters_read_per_token(),
        stored: checkpoint.stored_dtypes()?,
        quantized: quantized(checkpoint)?,
        kv_bytes_per_token_16_bit: kv,
        max_position_embeddings: config.max_position_embeddings,
        vocab_size: config.vocab_size,
        eos_token_ids: checkpoint.eos_token_ids()?,
        precisions,
        tensors,
    })
}

/// What a quantized checkpoint says of its matrices; `None` for a dense one.
fn quantized(checkpoint: &Checkpoint) -> Result<Option<Quantized>> {
    let source = checkpoint.weights();
    if !QuantizedCheckpoint::is_one(source) {
        return Ok(None);
    }
    let packed = QuantizedCheckpoint::open(source, checkpoint.path())?;
    let size = packed.footprint()?;
    let mut schemes = BTreeMap::new();
    for (_, entry) in packed.index().matrices() {
        *schemes.entry(entry.scheme.spelled_out()).or_insert(0) += 1;
    }
    Ok(Some(Quantized {
        policy: packed.index().policy().to_owned(),
        weight_bytes: size.bytes,
        bits_per_weight: size.bits_per_weight(),
        schemes,
    }))
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

fn print(report: &Report, config: &GlmConfig) {
    println!("{}", report.path);
    println!(
        "  {}: {} layers, hidden {}, FFN {}, {} heads / {} kv heads of {}, vocab {}, context {}",
        report.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.vocab_size,
        config.max_position_embeddings,
    );
    println!(
        "  rotary {} of {} dimensions, theta {}; qkv bias {}; head {}; end ids {:?}",
        config.rotary_dim(),
        config.head_dim,
        config.rope.rope_theta,
        if config.attention_bias { "yes" } else { "no" },
        if config.tie_word_embeddings { "tied" } else { "own" },
        report.eos_token_ids,
    );
    println!(
        "  {:.3} B parameters, {:.3} B read per token; keys and values {} bytes per token in 16 bits",
        report.parameters as f64 / 1e9,
        report.parameters_read_per_token as f64 / 1e9,
        report.kv_bytes_per_token_16_bit,
    );
    for (dtype, stored) in &report.stored {
        // Of a packed matrix these are codes and scales, not parameters.
        let what = if report.quantized.is_some() { "elements" } else { "parameters" };
        println!("  stored as {dtype}: {} tensors, {} {what}", stored.tensors, stored.parameters);
    }
    if let Some(quantized) = &report.quantized {
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
    for precision in &report.precisions {
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
    for tensor in &report.tensors {
        println!("  {:<60} {:?}", tensor.name, tensor.shape);
    }
}
