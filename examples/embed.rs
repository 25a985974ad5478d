//! Finds the lines of a file that are nearest to a question, by the cosine of their vectors.
//!
//! ```text
//! cargo run --release --example embed -- --query "How do I return an order?" lines.txt
//! ```
//!
//! The default encoder reads English; for Chinese take `--model BAAI/bge-small-zh-v1.5`. With `--reranker` the
//! best lines are read again, each together with the question, and put into a better order.

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lightglm::embedding::cosine;
use lightglm::{DEFAULT_EMBEDDING_MODEL, Embedder, Reranker};
use lightglm_examples::progress_bar::on_stderr;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Find the lines of a text that are nearest to a question")]
struct Args {
    /// The embedding model: a folder, or a name on a hub.
    #[arg(long, default_value = DEFAULT_EMBEDDING_MODEL)]
    model: String,
    /// A cross-encoder that puts the best lines into order: a folder, or a name on a hub.
    #[arg(long)]
    reranker: Option<String>,
    /// What is looked for.
    #[arg(long)]
    query: String,
    /// Lines that are shown.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Cut lines that are too long for the model, instead of refusing them.
    #[arg(long)]
    truncate: bool,
    /// Print JSON, a line of it for each line found.
    #[arg(long)]
    json: bool,
    /// The file; standard input if omitted.
    file: Option<PathBuf>,
}

fn main() -> std::process::ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let text = match &args.file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?
        }
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(!lines.is_empty(), "there are no lines to look in");

    // A vector for each line, and one for the question: texts that mean the same point the same way.
    let mut embedder = Embedder::open(&args.model, &on_stderr())?;
    if args.truncate {
        embedder = embedder.truncating();
    }
    if embedder.assumes_mean() {
        eprintln!("{}: no modules.json, so the mean of a text's tokens is taken", embedder.name());
    }
    let started = Instant::now();
    let vectors = embedder.embed(&lines)?;
    let seconds = started.elapsed().as_secs_f64();
    let query = embedder.embed(&[&args.query])?.remove(0);

    let mut found: Vec<(usize, f32)> =
        vectors.iter().map(|vector| cosine(&query, vector)).enumerate().collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.truncate(args.top);

    // A cross-encoder reads question and line together, which is better and slower: only the best lines.
    if let Some(model) = &args.reranker {
        let mut reranker = Reranker::open(model, &on_stderr())?;
        if args.truncate {
            reranker = reranker.truncating();
        }
        let best: Vec<&str> = found.iter().map(|(line, _)| lines[*line]).collect();
        let ranked = reranker.rank(&args.query, &best)?;
        found = ranked.into_iter().map(|ranked| (found[ranked.index].0, ranked.score)).collect();
    }

    for (line, score) in found {
        match args.json {
            true => println!("{}", json!({"score": score, "line": line + 1, "text": lines[line]})),
            false => println!("{score:.3}  {}", lines[line]),
        }
    }
    eprintln!(
        "{}: {} lines to {} elements each, {:.0} lines a second",
        embedder.name(),
        lines.len(),
        embedder.dimensions(),
        lines.len() as f64 / seconds.max(1e-9)
    );
    Ok(())
}
