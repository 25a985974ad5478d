//! Writes a checkpoint of random weights: a model of the right shape and size, for tests and
//! benchmarks, without a download.
//!
//! ```text
//! cargo run --release --example make_checkpoint -- --shape mid --dtype bf16 /tmp/mid
//! cargo run --release --example make_checkpoint -- --shape 9b --gguf q4_0 /tmp/9b-q4_0.gguf
//! cargo run --release --example make_checkpoint -- --config config.json --num-hidden-layers 4 /tmp/small
//! ```
//! Ctrl-C stops it and leaves nothing unfinished behind.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::WeightDtype;
use lightglm_examples::model_args::weight_dtype;
use lightglm_examples::shape::Shape;
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::{
    GgmlType, RANDOM_GGUF_TYPES, write_random_checkpoint, write_random_gguf,
};

#[derive(Parser)]
#[command(about = "Write a GLM checkpoint of random weights")]
struct Args {
    /// The folder to write to, or with --gguf the file; a checkpoint that is there is replaced.
    #[arg(value_name = "OUT")]
    out_dir: PathBuf,
    /// A named shape.
    #[arg(long, value_enum, default_value_t = Shape::Mid, conflicts_with = "config")]
    shape: Shape,
    /// The shape of this config.json.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Precision of the weights: f32, f16, bf16.
    #[arg(long, default_value = "bf16", value_parser = weight_dtype)]
    dtype: WeightDtype,
    /// Write a GGUF file with matrices in such blocks, and a vocabulary of bytes: q4_0, q8_0.
    #[arg(long, value_name = "TYPE", value_parser = block_type, conflicts_with_all = ["dtype", "shard_bytes"])]
    gguf: Option<GgmlType>,
    /// Equal seeds make equal weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Split into files of at most this many bytes (a tensor is never split).
    #[arg(long)]
    shard_bytes: Option<u64>,
    #[arg(long)]
    hidden_size: Option<usize>,
    #[arg(long)]
    num_hidden_layers: Option<usize>,
    #[arg(long)]
    num_attention_heads: Option<usize>,
    #[arg(long)]
    num_key_value_heads: Option<usize>,
    #[arg(long)]
    head_dim: Option<usize>,
    #[arg(long)]
    intermediate_size: Option<usize>,
    #[arg(long)]
    vocab_size: Option<usize>,
    #[arg(long)]
    max_position_embeddings: Option<usize>,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = shape(&args)?;
    let dtype = args.dtype;
    let parameters = config.num_parameters();
    let total = if args.gguf.is_some() { parameters } else { parameters * dtype.size() as u64 };
    println!("{parameters} parameters to {}", args.out_dir.display());

    // The handler only raises a flag: the writer itself stops at the next piece and cleans up.
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let style = match args.gguf {
        Some(_) => "{bar:40} {human_pos}/{human_len} weights {eta}",
        None => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    };
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?);
    let mut progress = |done| {
        bar.inc(done);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let (out, seed) = (&args.out_dir, args.seed);
    let written = match args.gguf {
        Some(blocks) => write_random_gguf(out, &config, blocks, seed, &mut progress),
        None => write_random_checkpoint(out, &config, dtype, seed, args.shard_bytes, &mut progress),
    };
    bar.finish_and_clear();
    ensure!(!stop.load(Ordering::Relaxed) || written.is_ok(), "stopped, nothing was written");
    written.context("the checkpoint was not written")?;
    println!("wrote {}", args.out_dir.display());
    Ok(())
}

/// A type of blocks that is written.
fn block_type(name: &str) -> Result<GgmlType, String> {
    let wanted = GgmlType::from_name(name).filter(|wanted| RANDOM_GGUF_TYPES.contains(wanted));
    wanted.ok_or_else(|| {
        let known = RANDOM_GGUF_TYPES.map(|known| known.name().to_lowercase());
        format!("`{name}` is not one of {}", known.join(", "))
    })
}

/// The named shape, or the one in a file, with what the command line changes.
fn shape(args: &Args) -> anyhow::Result<GlmConfig> {
    let mut config = match &args.config {
        Some(file) => GlmConfig::from_file(file)?,
        None => args.shape.config(),
    };
    let changes = [
        (&mut config.hidden_size, args.hidden_size),
        (&mut config.num_hidden_layers, args.num_hidden_layers),
        (&mut config.num_attention_heads, args.num_attention_heads),
        (&mut config.num_key_value_heads, args.num_key_value_heads),
        (&mut config.head_dim, args.head_dim),
        (&mut config.intermediate_size, args.intermediate_size),
        (&mut config.vocab_size, args.vocab_size),
        (&mut config.max_position_embeddings, args.max_position_embeddings),
    ];
    for (field, value) in changes {
        if let Some(value) = value {
            *field = value;
        }
    }
    if args.vocab_size.is_some() {
        // Special tokens of the larger vocabulary have no place in a smaller one.
        let fits = |id: &u32| (*id as usize) < config.vocab_size;
        config.eos_token_ids.retain(fits);
        config.pad_token_id = config.pad_token_id.filter(fits);
        config.bos_token_id = config.bos_token_id.filter(fits);
    }
    config.check()?;
    Ok(config)
}
