//! What stays of each block of a teacher, under a budget of bytes or of milliseconds.
//!
//! ```text
//! cargo run --release --example search -- --model DIR --bytes 90e6 --calibration TEXT --output DIR
//! cargo run --release --example search -- --model DIR --milliseconds 12 --calibration TEXT --output DIR --write
//! ```
//! Each block is kept in one of `--schemes` or dropped. Every choice is scored by itself: the KL divergence from the
//! teacher, on the text, of the teacher in which this block alone is replaced. The smallest sum of scores within the budget
//! is chosen, and measured as a whole: the table ends with both, since the sum is an approximation. Ctrl-C stops; the same
//! command goes on, and another budget costs next to nothing. `--write` writes the student: `OUTPUT/dense`, which can be
//! taught, and `OUTPUT/packed`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use lightglm::evaluate::first_tokens;
use lightglm::prune::search::{Budget, FoundStudent, SearchOptions, search};
use lightglm::{Error, Scheme, checkpoint};
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};

#[derive(Parser)]
#[command(about = "Choose what stays of each block of a model, under a budget")]
#[command(group(clap::ArgGroup::new("budget").required(true).args(["bytes", "milliseconds"])))]
struct Args {
    /// The teacher, dense: a folder, a .gguf file, or a hub id.
    #[arg(long)]
    model: String,
    /// The folder of scores, latencies and the result.
    #[arg(long)]
    output: PathBuf,
    /// Bytes that the student's tensors may take: 90e6, say.
    #[arg(long)]
    bytes: Option<f64>,
    /// Milliseconds that a decode step may take on this machine.
    #[arg(long)]
    milliseconds: Option<f64>,
    /// Schemes that a block may have.
    #[arg(long, value_delimiter = ',', default_value = "dense,int8,int4")]
    schemes: Vec<Scheme>,
    /// The scheme of the embedding table and of the head.
    #[arg(long, default_value = "dense")]
    tables: Scheme,
    /// Leave no block out.
    #[arg(long)]
    no_drop: bool,
    /// Numbers of feed-forward neurons, of which all blocks get one; the teacher's if omitted.
    #[arg(long, value_delimiter = ',')]
    ffn: Vec<usize>,
    /// The text that decides: real text of the kind that the student will meet.
    #[arg(long)]
    calibration: PathBuf,
    /// Score on at most this many tokens of it.
    #[arg(long, default_value_t = 4096)]
    calibration_tokens: usize,
    /// Tokens that the models see at once.
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Positions that a decode step looks back on where time is measured.
    #[arg(long, default_value_t = 512)]
    depth: usize,
    /// Read times from this file, or measure them into it where it is not there; latency.json of the output if omitted.
    #[arg(long)]
    latency_table: Option<PathBuf>,
    /// Write the student, dense and packed.
    #[arg(long)]
    write: bool,
    /// Replace what is in the student's folders.
    #[arg(long)]
    force: bool,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
    let teacher = checkpoint::open(&args.model, &progress)?;
    let text = std::fs::read_to_string(&args.calibration)
        .with_context(|| format!("--calibration {}", args.calibration.display()))?;
    let most = args.bytes.or(args.milliseconds).unwrap_or_default();
    ensure!(most.is_finite() && most > 0.0, "a budget of {most}: must be positive");
    let budget = match (args.bytes, args.milliseconds) {
        (_, Some(milliseconds)) => Budget::Milliseconds(milliseconds),
        (bytes, None) => Budget::Bytes(bytes.unwrap_or_default() as u64),
    };
    let options = SearchOptions {
        schemes: args.schemes,
        drop: !args.no_drop,
        intermediate_sizes: args.ffn,
        tables: args.tables,
        calibration: first_tokens(&teacher.tokenizer()?, &text, args.calibration_tokens)?,
        context: args.context,
        depth: args.depth,
        latency_table: args.latency_table,
        progress: progress.clone(),
        ..SearchOptions::new(budget)
    };
    let found = search(&teacher, &options, &args.output).map_err(|error| match error {
        Error::Interrupted { .. } => anyhow!("stopped: the same command goes on"),
        error => error.into(),
    })?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print(&found),
    }
    if args.write {
        let [dense, packed] = ["dense", "packed"].map(|name| args.output.join(name));
        let written = found.write(&teacher, &dense, &packed, args.force, &progress);
        written.map_err(|error| match error {
            Error::FolderNotEmpty { .. } => anyhow!("{error} (--force replaces it)"),
            error => error.into(),
        })?;
        eprintln!("{} and {}", dense.display(), packed.display());
    }
    Ok(())
}

fn print(found: &FoundStudent) {
    println!("{:<7}{:<16}{:>16}{:>14}", "layer", "choice", found.unit, "KL alone");
    for block in &found.blocks {
        let cost = amount(block.cost, &found.unit);
        println!("{:<7}{:<16}{cost:>16}{:>14.6}", block.layer, block.choice, block.kl);
    }
    let (cost, budget) = (amount(found.cost, &found.unit), amount(found.budget, &found.unit));
    let exact = if found.is_exact { "" } else { ", up to a step of the budget" };
    println!(
        "\n{cost} of {budget} {}, {} bytes, {} of {} layers, {} neurons{exact}",
        found.unit,
        found.bytes,
        found.layers.len(),
        found.blocks.len(),
        found.intermediate_size,
    );
    println!("KL from the teacher, nats a token:");
    println!("  {:.6} predicted: the sum of what each loses alone", found.predicted_kl);
    println!("  {:.6} measured on the whole student", found.measured_kl);
    println!("policy: {}", if found.policy.is_empty() { "all dense" } else { &found.policy });
}

fn amount(cost: f64, unit: &str) -> String {
    if unit == "bytes" { format!("{cost:.0}") } else { format!("{cost:.3}") }
}
