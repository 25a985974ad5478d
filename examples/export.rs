//! Exports a model for vLLM and transformers: quantized, in the layouts of compressed-tensors.
//!
//! ```text
//! cargo run --release --example export -- --model glm-4-9b --format int-quantized out/
//! cargo run --release --example export -- --format pack-quantized --group-size 64 out/
//! ```
//! `int-quantized` is W8A8 (INT8 weights per channel, INT8 activations per token), `pack-quantized`
//! W4A16 (INT4 weights in groups). Weights are rounded to nearest. Ctrl-C stops it and leaves nothing
//! unfinished behind.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{TensorView, WeightDtype, WeightSource, save_safetensors};
use lightglm_examples::open_model;
use lightglm_kernels::ScaleDtype;
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig, CompressedTensorsScheme,
    export_compressed_tensors, snap_minimums,
};
use lightglm_quant::round_to_nearest;
use serde::Serialize;
use serde_json::{Map, Value};

/// Files that other programs look for beside the weights.
const COMPANIONS: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

#[derive(Parser)]
#[command(about = "Export a quantized model for vLLM and transformers")]
struct Args {
    /// The folder to write to.
    out_dir: PathBuf,
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// The layout.
    #[arg(long, value_enum, default_value_t = Format::IntQuantized)]
    format: Format,
    /// Columns that share a scale (pack-quantized).
    #[arg(long, default_value_t = 128)]
    group_size: usize,
    /// With zero points (pack-quantized).
    #[arg(long)]
    asymmetric: bool,
    /// Quantize lm_head too.
    #[arg(long)]
    lm_head: bool,
    /// Replace a model that is already in the folder.
    #[arg(long)]
    force: bool,
    /// Read the export back and write its dequantized weights to this safetensors file.
    #[arg(long)]
    dequantized: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    IntQuantized,
    PackQuantized,
}

#[derive(Serialize)]
struct Report {
    out_dir: PathBuf,
    format: &'static str,
    quantized_layers: usize,
    bytes: u64,
    seconds: f64,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let scheme = match args.format {
        Format::IntQuantized => CompressedTensorsScheme::W8A8,
        Format::PackQuantized => CompressedTensorsScheme::w4a16(args.group_size, !args.asymmetric),
    };
    let config_file = args.out_dir.join("config.json");
    ensure!(
        args.force || !config_file.exists(),
        "{} has a model already; --force replaces it",
        args.out_dir.display()
    );
    let begin = Instant::now();
    let checkpoint = open_model(args.model.as_deref())?;
    let config: Map<String, Value> = match fs::read(checkpoint.path().join("config.json")) {
        Ok(text) => serde_json::from_slice(&text)?,
        // A GGUF file says the same in other words.
        Err(_) => serde_json::from_str(&checkpoint.config().to_json())?,
    };

    // The handler only raises a flag: the writer itself stops at the next tensor and cleans up.
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let ignore = if args.lm_head { vec![] } else { vec!["lm_head".to_owned()] };
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(count_layers(checkpoint.weights(), &ignore)),
    };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} layers {elapsed} {msg}")?);
    let mut weight_scheme = scheme.weight_scheme();
    if args.asymmetric {
        // Scales that f16 holds, stored as f32: then zero points are exact on both sides.
        weight_scheme.scale_dtype = ScaleDtype::F16;
    }
    let (mut layers, mut bytes) = (0, 0);
    let weights = checkpoint.weights();
    let written = export_compressed_tensors(
        &args.out_dir,
        weights,
        &config,
        &scheme,
        &ignore,
        &mut |layer| {
            bar.set_message(layer.to_owned());
            bar.inc(1);
            layers += 1;
            let view = weights.tensor(&format!("{layer}.weight"))?;
            let shape = [view.shape[0], view.shape[1]];
            let mut matrix = round_to_nearest(layer, &f32s(&view), shape, &weight_scheme)?;
            snap_minimums(&mut matrix);
            Ok(matrix)
        },
        &mut |written| {
            bytes += written;
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        },
    );
    bar.finish_and_clear();
    ensure!(!stop.load(Ordering::Relaxed) || written.is_ok(), "stopped, nothing was written");
    written.context("the model was not exported")?;
    copy_companions(checkpoint.path(), &args.out_dir)?;
    if let Some(file) = &args.dequantized {
        write_dequantized(&args.out_dir, file)?;
    }
    let report = Report {
        out_dir: args.out_dir,
        format: scheme.format.name(),
        quantized_layers: layers,
        bytes,
        seconds: begin.elapsed().as_secs_f64(),
    };
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!(
            "{} layers {}, {} bytes in {:.1} s, to {}",
            report.quantized_layers,
            report.format,
            report.bytes,
            report.seconds,
            report.out_dir.display()
        ),
    }
    Ok(())
}

/// Matrices that will be quantized.
fn count_layers(weights: &dyn WeightSource, ignore: &[String]) -> u64 {
    let names = weights.names().into_iter();
    let layers = names.filter(|name| {
        let matrix = weights.shape(name).is_some_and(|shape| shape.len() == 2);
        let layer = name.strip_suffix(".weight");
        matrix
            && layer.is_some_and(|l| !l.ends_with("embed_tokens") && !ignore.iter().any(|i| i == l))
    });
    layers.count() as u64
}

/// What the tokenizer and the generation need, where the model is a folder that has it.
fn copy_companions(model: &Path, out_dir: &Path) -> Result<()> {
    for name in COMPANIONS {
        let (from, to) = (model.join(name), out_dir.join(name));
        if from.is_file() && from.canonicalize()? != to.canonicalize().unwrap_or_default() {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn write_dequantized(folder: &Path, file: &Path) -> Result<()> {
    let text = fs::read(folder.join("config.json"))?;
    let config = CompressedTensorsConfig::from_config_json(&text)?;
    let config = config.context("the export has no quantization_config")?;
    let weights = SafetensorsCheckpoint::open(folder)?;
    let source = CompressedTensorsCheckpoint::new(&weights, config, folder);
    Ok(save_safetensors(file, &source, &BTreeMap::new())?)
}

fn f32s(view: &TensorView) -> Vec<f32> {
    let bytes = &view.bytes[..];
    match view.dtype {
        WeightDtype::F32 => {
            let four = bytes.chunks_exact(4);
            four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        WeightDtype::F16 => {
            let two = bytes.chunks_exact(2);
            two.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        WeightDtype::Bf16 => {
            let two = bytes.chunks_exact(2);
            two.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
    }
}
