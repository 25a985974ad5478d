//! Exports a model for vLLM and transformers: quantized, in the layouts of compressed-tensors.
//!
//! ```text
//! cargo run --release --example export -- --model glm-4-9b --format int-quantized out/
//! cargo run --release --example export -- --format pack-quantized --group-size 64 out/
//! ```
//! `int-quantized` is W8A8 (INT8 weights per channel, INT8 activations per token), `pack-quantized`
//! W4A16 (INT4 weights in groups). Weights are rounded to nearest, with a LoRA `--adapter` added to them before,
//! if there is one. Ctrl-C stops it and leaves nothing
//! unfinished behind.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};
use lightglm::quantize::{ExportFormat, ExportOptions, export, write_dequantized};
use lightglm::{Error, SMALL_MODEL, checkpoint};
use lightglm_examples::adapter_args::AdapterArgs;
use lightglm_examples::{progress_bar, stop_on_ctrl_c};
use serde::Serialize;

#[derive(Parser)]
#[command(about = "Export a quantized model for vLLM and transformers")]
struct Args {
    /// The folder to write to.
    out_dir: PathBuf,
    /// A folder, a .gguf file, or a hub id; smollm2-135m-instruct if omitted.
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
    #[command(flatten)]
    adapter: AdapterArgs,
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
    let (group_size, asymmetric) = (args.group_size, args.asymmetric);
    let format = match args.format {
        Format::IntQuantized => ExportFormat::IntQuantized,
        Format::PackQuantized => ExportFormat::PackQuantized { group_size, asymmetric },
    };
    let begin = Instant::now();
    let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
    let name = args.model.as_deref().unwrap_or(SMALL_MODEL);
    let checkpoint = checkpoint::open(name, &progress)?;
    let options = ExportOptions {
        lm_head: args.lm_head,
        adapter: args.adapter.folder()?,
        overwrite: args.force,
        progress,
        ..ExportOptions::new(format)
    };
    let exported = export(&checkpoint, &options, &args.out_dir);
    let exported = exported.map_err(|error| match error {
        Error::FolderNotEmpty { folder } => {
            anyhow!("{} has a model already; --force replaces it", folder.display())
        }
        Error::Interrupted { .. } => anyhow!("stopped, nothing was written"),
        error => anyhow!(error).context("the model was not exported"),
    })?;
    if let Some(file) = &args.dequantized {
        write_dequantized(&args.out_dir, file)?;
    }
    let report = Report {
        out_dir: args.out_dir,
        format: exported.format,
        quantized_layers: exported.quantized_layers,
        bytes: exported.bytes,
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
