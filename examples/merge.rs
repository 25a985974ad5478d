//! A model and a LoRA adapter in, one model out.
//!
//! ```text
//! cargo run --release --example merge -- --model glm-4-9b-0414 --adapter adapters/shop shop/
//! cargo run --release --example merge -- --model glm-4-9b-int4/ --adapter adapters/shop shop-int4/
//! ```
//! writes a folder that `chat`, `serve` and `evaluate` take as `--model`. A dense folder keeps its layout, its
//! shards and its precision; in one that `quantize` wrote the matrices that the adapter touches are quantized again,
//! and the program says what that costs; a GGUF file becomes a dense folder. Ctrl-C stops, and leaves what was there.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Parser;
use lightglm::merge::{MergeOptions, MergeReport, merge};
use lightglm::{Error, SMALL_MODEL, WeightDtype, checkpoint};
use lightglm_examples::adapter_args::AdapterArgs;
use lightglm_examples::model_args::weight_dtype;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Merge a LoRA adapter into a model")]
struct Args {
    /// The folder to write.
    out_dir: PathBuf,
    /// A folder, a .gguf file, or a hub id; smollm2-135m-instruct if omitted.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// The precision of what comes out of a GGUF file's blocks: f32, f16, bf16 (f32 if omitted, which loses nothing).
    #[arg(long, value_parser = weight_dtype)]
    dtype: Option<WeightDtype>,
    /// Replace what is in the folder.
    #[arg(long)]
    force: bool,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let adapter = args.adapter.folder()?.ok_or_else(|| anyhow!("--adapter says which adapter"))?;
    let (begin, progress) = (Instant::now(), progress_bar::on_stderr_until(stop_on_ctrl_c()?));
    let checkpoint = checkpoint::open(args.model.as_deref().unwrap_or(SMALL_MODEL), &progress)?;
    let options = MergeOptions { dtype: args.dtype, overwrite: args.force, progress };
    let report = merge(&checkpoint, &adapter, &options, &args.out_dir);
    let report = report.map_err(|error| match error {
        Error::FolderNotEmpty { .. } => anyhow!("{error} (--force replaces it)"),
        Error::Interrupted { .. } => anyhow!("stopped, nothing was written"),
        error => error.into(),
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    match args.json {
        true => println!("{}", to_json(&args, &report, seconds)),
        false => print(&args, &report, seconds),
    }
    Ok(())
}

fn to_json(args: &Args, report: &MergeReport, seconds: f64) -> serde_json::Value {
    let requantized = report.requantized.as_ref().map(|cost| {
        let (matrix, share) = &cost.worst;
        json!({
            "matrices": cost.matrices,
            "error_of_update": cost.error_of_update,
            "error_of_weights": cost.error_of_weights,
            "largest": cost.largest,
            "worst": {"matrix": matrix, "error_of_update": share},
        })
    });
    json!({
        "out_dir": args.out_dir,
        "merged": report.merged,
        "bytes": report.bytes,
        "untied": report.untied,
        "requantized": requantized,
        "seconds": seconds,
    })
}

fn print(args: &Args, report: &MergeReport, seconds: f64) {
    let MergeReport { merged, bytes, untied, requantized, .. } = report;
    let megabytes = *bytes as f64 / 1e6;
    println!(
        "{}: the adapter is in {merged} tensors; {megabytes:.1} MB in {seconds:.1} s",
        args.out_dir.display()
    );
    if *untied {
        println!("  lm_head, which was the table of embeddings, is a matrix of its own now");
    }
    if let Some(cost) = requantized {
        let percent = |share: f64| 100.0 * share;
        println!(
            "  {} matrices were quantized again, which changed their weights by {:.3} % (a weight by {:.2e} at most)",
            cost.matrices,
            percent(cost.error_of_weights),
            cost.largest,
        );
        println!(
            "  that is {:.1} % of what the adapter changed; {:.1} % in {}",
            percent(cost.error_of_update),
            percent(cost.worst.1),
            cost.worst.0,
        );
    }
}
