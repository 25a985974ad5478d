//! What this machine can do, and how much of it the model gets.
//!
//! `cargo run --release --example bench -- --shape mid --dtype bf16 --threads 2 --prefill 512 --decode 64`
//! measures the machine's roofs (read bandwidth, f32 multiply-add, int8 dot product) and the model in
//! turns: a prompt of `--prefill` tokens, and `--decode` steps of `--batch` sequences that already hold
//! `--depth` positions. It prints a table, or one JSON object with `--json`. Roofs and model take
//! turns because a shared machine changes its speed within seconds.
//!
//! How to read it: decode moves bytes (each step reads every weight once, and the keys and values
//! of all sequences), so its fraction is of the read bandwidth. Prefill computes, so its fraction is
//! of the multiply-add peak, and with `--scheme int8` and its like of the int8 dot product's as well.
//! Quote fractions: machines differ, and a shared one changes by the hour.
//!
//! `--sparsity 0.5` gives each projection of the blocks a threshold below which half of its inputs lie,
//! found by running the model on 128 tokens (`--thresholds` takes a file instead); the sparsity printed
//! is counted on 128 others with all masks at work. The bytes of a step are those that are left,
//! counting matrices of few rows whole. With `--prompt-neurons` a prompt's time contains the choice of
//! neurons, and steps run the choice of 128 tokens.
//!
//! `--rows` adds a table of forward passes of 1 to 512 rows (`--rows 1,3,5` of so many): the tokens of
//! one sequence, logits of the last, with the fractions of both roofs. Tokens/s that fall from one
//! number of rows to the next show a kernel that handles the larger one badly.
//!
//! With `--shape` the weights are random (`load_seconds` is then the time to generate them), which
//! costs the same time as real ones.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use lightglm::speed::{Bench, BenchModel, BenchResult, RowSpeed, Workload, peak_rss_bytes};
use lightglm_examples::model_args::ModelArgs;
use lightglm_examples::shape::Shape;
use lightglm_examples::use_threads;
use serde::Serialize;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Random weights of this shape (mid if neither this nor --model is given).
    #[arg(long, value_enum, conflicts_with = "model")]
    shape: Option<Shape>,
    /// The fraction of the inputs of each of the blocks' projections that is left out.
    #[arg(long, conflicts_with_all = ["thresholds", "prompt_neurons"])]
    sparsity: Option<f64>,
    /// Prompt length to measure; 0 skips it.
    #[arg(long, default_value_t = 512)]
    prefill: usize,
    /// Decode steps to measure; 0 skips them.
    #[arg(long, default_value_t = 64)]
    decode: usize,
    /// Positions each sequence holds before the first measured decode step.
    #[arg(long, default_value_t = 0)]
    depth: usize,
    /// Sequences decoded together.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Prompts to measure; the median is reported.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Also time passes of so many tokens of one sequence (a span, not a batch), beside both roofs.
    #[arg(long, num_args = 0..=1, default_missing_value = "1,2,4,8,16,32,64,128,512")]
    rows: Option<RowList>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Whether --kv-dtype is given.
    #[arg(skip)]
    kv_dtype_given: bool,
}

/// Numbers of rows, separated by commas.
#[derive(Clone)]
struct RowList(Vec<usize>);

impl FromStr for RowList {
    type Err = std::num::ParseIntError;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        list.split(',').map(|rows| rows.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl Args {
    /// The command line. Keys and values are not f16 here if nothing is said.
    fn read() -> Self {
        const KV: &str = "Hold keys and values as: f32, f16, bf16, int8, int8-rotated; in the \
            precision of the weights if omitted (quantized ones: bf16)";
        let command = Self::command();
        let command = command.mut_arg("kv_dtype", |arg| arg.hide_default_value(true).help(KV));
        let matches = command.get_matches();
        let given = matches.value_source("kv_dtype") != Some(ValueSource::DefaultValue);
        match Self::from_arg_matches(&matches) {
            Ok(args) => Self { kv_dtype_given: given, ..args },
            Err(error) => error.exit(),
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    shape: String,
    scheme: String,
    threads: usize,
    batch: usize,
    depth: usize,
    /// The fraction of the blocks' weights that a token does without, with thresholds.
    sparsity: Option<f64>,
    read_bandwidth_gbs: f64,
    f32_gflops: f64,
    int8_gops: f64,
    load_seconds: f64,
    decode_tokens_per_s: Option<f64>,
    decode_bytes_per_token: usize,
    decode_fraction_of_bandwidth: Option<f64>,
    prefill_tokens_per_s: Option<f64>,
    prefill_fraction_of_compute: Option<f64>,
    /// Of the int8 dot product's peak, for schemes that multiply integers.
    prefill_fraction_of_int8: Option<f64>,
    peak_rss_bytes: Option<u64>,
    rows: Vec<Row>,
}

/// A pass of `--rows`.
#[derive(Serialize)]
struct Row {
    rows: usize,
    tokens_per_s: f64,
    fraction_of_bandwidth: f64,
    /// Of the int8 dot product's for schemes that multiply integers, of the multiply-add's for others.
    fraction_of_peak: f64,
}

impl From<RowSpeed> for Row {
    fn from(row: RowSpeed) -> Self {
        let RowSpeed { rows, tokens_per_s, fraction_of_bandwidth, fraction_of_peak } = row;
        Self { rows, tokens_per_s, fraction_of_bandwidth, fraction_of_peak }
    }
}

impl Outcome {
    fn new(shape: String, workload: &Workload, result: BenchResult) -> Self {
        let speeds = result.speeds;
        Self {
            shape,
            scheme: result.scheme,
            threads: workload.threads,
            batch: workload.batch,
            depth: workload.depth,
            sparsity: result.sparsity,
            read_bandwidth_gbs: speeds.read_bandwidth_gbs,
            f32_gflops: speeds.f32_gflops,
            int8_gops: speeds.int8_gops,
            load_seconds: result.load_seconds,
            decode_tokens_per_s: speeds.decode_tokens_per_s,
            decode_bytes_per_token: speeds.decode_bytes_per_step,
            decode_fraction_of_bandwidth: speeds.decode_fraction_of_bandwidth,
            prefill_tokens_per_s: speeds.prefill_tokens_per_s,
            prefill_fraction_of_compute: speeds.prefill_fraction_of_compute,
            prefill_fraction_of_int8: speeds.prefill_fraction_of_int8,
            peak_rss_bytes: peak_rss_bytes(),
            rows: result.rows.into_iter().map(Row::from).collect(),
        }
    }
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::read();
    ensure!(args.batch > 0, "--batch must be at least 1");
    ensure!(args.repetitions > 0, "--repetitions must be at least 1");
    let threads = use_threads(args.model.threads)?;
    let checkpoint = args.model.model.as_ref().map(|_| args.model.checkpoint()).transpose()?;
    let shape = args.shape.unwrap_or(Shape::Mid);
    let config = shape.config();
    let (model, name) = match &checkpoint {
        Some(checkpoint) => (BenchModel::Checkpoint(checkpoint), args.model.name().to_owned()),
        None => {
            let name = shape.to_possible_value().map_or(String::new(), |v| v.get_name().into());
            (BenchModel::Random(&config), name)
        }
    };
    let options = args.model.options();
    let kv_dtype = args.kv_dtype_given.then_some(options.kv_dtype);
    let Args { sparsity, prefill, decode, depth, batch, repetitions, .. } = args;
    let workload = Workload { prefill, decode, depth, batch, repetitions, threads };
    let rows = args.rows.as_ref().map_or(&[][..], |list| &list.0);
    let result = Bench { model, options, sparsity, kv_dtype, workload, rows }.run()?;
    let outcome = Outcome::new(name, &workload, result);
    match args.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => print_table(&outcome),
    }
    Ok(())
}

fn print_table(o: &Outcome) {
    let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.0} %", 100.0 * x));
    let rate = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.1} tokens/s"));
    let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    println!(
        "{} {}, {} threads, batch {}, depth {}",
        o.shape, o.scheme, o.threads, o.batch, o.depth
    );
    if let Some(sparsity) = o.sparsity {
        println!("  sparsity          {:>10.1} % of the blocks' weights", 100.0 * sparsity);
    }
    println!("  read bandwidth    {:>10.1} GB/s", o.read_bandwidth_gbs);
    println!("  f32 multiply-add  {:>10.0} GFLOP/s", o.f32_gflops);
    println!("  int8 dot product  {:>10.0} GOP/s", o.int8_gops);
    println!("  load              {:>10.2} s", o.load_seconds);
    println!(
        "  decode            {:>10}   {} of the bandwidth ({} a step)",
        rate(o.decode_tokens_per_s),
        percent(o.decode_fraction_of_bandwidth),
        gb(o.decode_bytes_per_token as u64)
    );
    println!(
        "  prefill           {:>10}   {} of the multiply-add peak",
        rate(o.prefill_tokens_per_s),
        percent(o.prefill_fraction_of_compute)
    );
    if o.prefill_fraction_of_int8.is_some() {
        let of_int8 = percent(o.prefill_fraction_of_int8);
        println!("  {:<29} {of_int8} of the int8 dot product's peak", "");
    }
    for row in &o.rows {
        println!(
            "  {:>4} rows         {:>10.1} tokens/s   {:.0} % of the bandwidth, {:.0} % of the peak",
            row.rows,
            row.tokens_per_s,
            100.0 * row.fraction_of_bandwidth,
            100.0 * row.fraction_of_peak
        );
    }
    println!("  peak memory       {:>10}", o.peak_rss_bytes.map_or("-".into(), gb));
}
