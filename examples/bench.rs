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
//! found by running the model on 128 tokens; the sparsity printed is counted on 128 others with all
//! masks at work. The bytes of a step are those that are left, counting matrices of few rows whole.
//!
//! With `--shape` the weights are random (`load_seconds` is then the time to generate them), which
//! costs the same time as real ones.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Tensor;
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use lightglm_core::{KV_BLOCK, LogitRows, PageBudget, SequenceId, Span};
use lightglm_core::{KvDtype, KvShape};
use lightglm_examples::device::{Device, DeviceJob, run_on};
use lightglm_examples::loaded::EXACT_LAYERS;
use lightglm_examples::precision::Precision;
use lightglm_examples::serving::{
    Quantized, Served, ServedModel, open_quantized, policy_of, quantize_source, serve, serve_source,
};
use lightglm_examples::shape::Shape;
use lightglm_examples::sparse_model::{SHORTEST_RUN, sparsify};
use lightglm_examples::{open_model, use_threads};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{LmBackend, cpu};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{Policy, QuantizedCheckpoint, Scheme};
use serde::Serialize;

#[derive(Parser)]
struct Args {
    /// A model: a folder, a .gguf file, or a hub id.
    #[arg(long, conflicts_with = "shape")]
    model: Option<String>,
    /// Random weights of this shape instead of a model.
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// Precision of the weights; a model's own where left out (random weights: bf16).
    #[arg(long, value_enum, conflicts_with_all = ["scheme", "policy"])]
    dtype: Option<Precision>,
    /// Quantize while loading: int8, int4, int8wo, int4wo-g64, w8a8, ...
    #[arg(long)]
    scheme: Option<Scheme>,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// The fraction of the inputs of each of the blocks' projections that is left out.
    #[arg(long)]
    sparsity: Option<f64>,
    /// Positions that a decode step attends to at most, in all layers but the first two; the pages of
    /// the cache are chosen by the queries.
    #[arg(long)]
    kv_budget: Option<usize>,
    /// Keys and values as f32, f16, bf16, int8 or int8-rotated; in the precision of the weights where
    /// left out (quantized ones: bf16).
    #[arg(long)]
    kv_dtype: Option<KvDtype>,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
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
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: Device,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Bytes read after each decode step to measure the bandwidth: well beyond a last-level cache.
const ROOF_BYTES: usize = 256 << 20;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    shape: String,
    scheme: String,
    threads: usize,
    batch: usize,
    depth: usize,
    /// The fraction of the blocks' weights that a token does without, where `--sparsity` is given.
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
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    ensure!(args.batch > 0, "--batch must be at least 1");
    ensure!(args.repetitions > 0, "--repetitions must be at least 1");
    let threads = use_threads(args.threads)?;
    let json = args.json;
    let outcome = run_on(args.device, Bench { args, threads })?;
    if json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print_table(&outcome);
    }
    Ok(())
}

struct Bench {
    args: Args,
    threads: usize,
}

impl DeviceJob for Bench {
    type Output = Outcome;

    fn run<B: LmBackend>(self, device: B::Device) -> Result<Outcome> {
        let args = &self.args;
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        spinner.set_message("loading the model");
        let start = Instant::now();
        let subject = load::<B>(args, &device)?;
        let load_seconds = start.elapsed().as_secs_f64();
        spinner.set_message("measuring the machine");
        let mut int8_gops = vec![cpu::roofs::int8_dot_gops(self.threads)];
        let mut f32_gflops = vec![cpu::roofs::f32_fma_gflops(self.threads)];
        spinner.set_message("measuring prefill");
        let prefill = match args.prefill {
            0 => None,
            tokens => {
                subject.prefill(tokens, &device)?;
                f32_gflops.clear();
                int8_gops.clear();
                let mut seconds = Vec::new();
                for _ in 0..args.repetitions {
                    seconds.push(subject.prefill(tokens, &device)?);
                    f32_gflops.push(cpu::roofs::f32_fma_gflops(self.threads));
                    int8_gops.push(cpu::roofs::int8_dot_gops(self.threads));
                }
                Some(median(seconds))
            }
        };
        let (f32_gflops, int8_gops) = (median(f32_gflops), median(int8_gops));
        spinner.set_message("measuring decode");
        let (step, read_bandwidth_gbs) = match args.decode {
            0 => (None, cpu::roofs::read_bandwidth_gbs(self.threads)),
            steps => {
                let (step, bandwidth) = subject.decode(args, steps, &device)?;
                (Some(step), bandwidth)
            }
        };
        spinner.finish_and_clear();
        let positions = args.depth + args.decode / 2 + 1;
        // What several sequences leave out together is not known.
        let skipped = if args.batch == 1 { subject.sparsity.skipped_bytes } else { 0 };
        let bytes_per_step = subject.model.bytes_read(args.batch) - skipped
            + args.batch * subject.kv_read(positions);
        let flops = subject.prefill_flops(args.prefill);
        Ok(Outcome {
            shape: subject.name,
            scheme: subject.scheme,
            threads: self.threads,
            batch: args.batch,
            depth: args.depth,
            sparsity: subject.sparsity.fraction,
            read_bandwidth_gbs,
            f32_gflops,
            int8_gops,
            load_seconds,
            decode_tokens_per_s: step.map(|s| args.batch as f64 / s),
            decode_bytes_per_token: bytes_per_step,
            decode_fraction_of_bandwidth: step
                .map(|s| bytes_per_step as f64 / s / 1e9 / read_bandwidth_gbs),
            prefill_tokens_per_s: prefill.map(|s| args.prefill as f64 / s),
            prefill_fraction_of_compute: prefill.map(|s| flops / s / 1e9 / f32_gflops),
            prefill_fraction_of_int8: prefill
                .filter(|_| subject.integer)
                .map(|s| flops / s / 1e9 / int8_gops),
            peak_rss_bytes: peak_rss_bytes(),
        })
    }
}

/// The model under measurement.
struct Subject<B: LmBackend> {
    model: Box<dyn ServedModel<B>>,
    config: GlmConfig,
    name: String,
    scheme: String,
    integer: bool,
    kv_dtype: KvDtype,
    sparsity: SparsityFound,
    kv_budget: Option<usize>,
}

/// What a token does without.
#[derive(Default)]
struct SparsityFound {
    /// Of the blocks' weights.
    fraction: Option<f64>,
    skipped_bytes: usize,
}

/// Tokens that thresholds are found on, and as many others that they are checked on.
const CALIBRATION: usize = 128;

/// `quantized`, made sparse.
fn sparse<B: LmBackend>(
    quantized: Quantized<B>,
    config: &GlmConfig,
    sparsity: f64,
) -> Result<(Served<B>, SparsityFound)> {
    let Quantized { model, scheme, integer } = quantized;
    let ids: Vec<u32> =
        (0..2 * CALIBRATION).map(|i| (i * 7919 % config.vocab_size) as u32).collect();
    let (calibrate, check) = ids.split_at(CALIBRATION);
    let sparse = sparsify(model, sparsity, calibrate, check, SHORTEST_RUN)?;
    let found =
        SparsityFound { fraction: Some(sparse.sparsity), skipped_bytes: sparse.skipped_bytes };
    Ok((Served { model: sparse.model, scheme, integer }, found))
}

fn load<B: LmBackend>(args: &Args, device: &B::Device) -> Result<Subject<B>> {
    let as_stored = Policy::uniform(Scheme::Dense);
    let policy = policy_of(args.scheme, args.policy.clone())?;
    let policy = policy.as_ref();
    let (config, (served, sparsity), name, precision) = match &args.model {
        Some(name) => {
            let checkpoint = open_model(Some(name))?;
            let (config, source) = (checkpoint.config(), checkpoint.weights());
            let served = match (args.sparsity, policy, QuantizedCheckpoint::is_one(source)) {
                (None, ..) => {
                    (serve(&checkpoint, policy, args.dtype, device)?, SparsityFound::default())
                }
                (Some(sparsity), None, true) => {
                    sparse(open_quantized(&checkpoint, device)?, config, sparsity)?
                }
                (Some(_), Some(_), true) => {
                    bail!("{name}: is quantized already, without --scheme")
                }
                (Some(sparsity), policy, false) => {
                    ensure!(args.dtype.is_none(), "--sparsity takes --model as it is stored");
                    let (file, policy) = (checkpoint.path(), policy.unwrap_or(&as_stored));
                    let quantized = quantize_source(config, source, file, policy, device)?;
                    sparse(quantized, config, sparsity)?
                }
            };
            let stored = match served.0.integer {
                true => Precision::Bf16,
                false => checkpoint.stored_dtype()?.into(),
            };
            (config.clone(), served, name.clone(), args.dtype.unwrap_or(stored))
        }
        None => {
            let shape = args.shape.unwrap_or(Shape::Mid);
            let dtype = args.dtype.unwrap_or(Precision::Bf16);
            let mut config = shape.config();
            // The bench may ask for any depth; positions beyond the training's cost the same.
            let needed = args.prefill.max(args.depth + args.decode) + 1;
            config.max_position_embeddings = config.max_position_embeddings.max(needed);
            let weights = SeededWeights::new(config.clone(), dtype.weight(), 0);
            let file = PathBuf::from("random weights");
            let served = match args.sparsity {
                None => (
                    serve_source(&config, &weights, &file, policy, dtype, device)?,
                    SparsityFound::default(),
                ),
                Some(sparsity) => {
                    let policy = policy.unwrap_or(&as_stored);
                    let quantized = quantize_source(&config, &weights, &file, policy, device)?;
                    sparse(quantized, &config, sparsity)?
                }
            };
            let name = shape.to_possible_value().map_or(String::new(), |v| v.get_name().into());
            (config, served, name, dtype)
        }
    };
    // What the device has no arithmetic for, the loader holds in f32; so do we.
    let kv_dtype = args.kv_dtype.unwrap_or(precision.kv());
    let kv_dtype = match B::supports_dtype(device, kv_dtype.into()) {
        true => kv_dtype,
        false => KvDtype::F32,
    };
    let Served { model, scheme, integer } = served;
    Ok(Subject {
        model,
        config,
        name,
        scheme,
        integer,
        kv_dtype,
        sparsity,
        kv_budget: args.kv_budget,
    })
}

impl<B: LmBackend> Subject<B> {
    fn cache(&self, batch: usize, positions: usize, device: &B::Device) -> ContiguousKvCache<B> {
        let cache = ContiguousKvCache::new(
            KvShape::of(&self.config),
            batch,
            positions,
            self.kv_dtype,
            device,
        );
        match self.kv_budget {
            None => cache,
            Some(positions) => cache.with_page_budget(PageBudget { positions }, EXACT_LAYERS),
        }
    }

    /// Bytes of keys and values of one position.
    fn kv_bytes(&self) -> usize {
        KvShape::of(&self.config).bytes_per_position(self.kv_dtype)
    }

    /// Bytes of keys, values and bounds that a decoded token reads at `positions` positions.
    fn kv_read(&self, positions: usize) -> usize {
        let c = &self.config;
        let exact = positions * self.kv_bytes();
        let Some(budget) = self.kv_budget.filter(|budget| *budget < positions) else {
            return exact;
        };
        let layers = c.num_hidden_layers;
        let bounds = 2 * 4 * c.head_dim * c.num_key_value_heads * positions.div_ceil(KV_BLOCK);
        let selected = budget * self.kv_bytes() / layers + bounds;
        let few = EXACT_LAYERS.min(layers);
        exact / layers * few + selected * (layers - few)
    }

    /// Seconds for a prompt of `tokens` tokens, logits of the last row.
    fn prefill(&self, tokens: usize, device: &B::Device) -> Result<f64> {
        let mut cache = self.cache(1, tokens, device);
        let ids: Vec<u32> = (0..tokens).map(|i| self.token(i)).collect();
        let span = Span { sequence: SequenceId(0), tokens: &ids, logits: LogitRows::Last };
        let start = Instant::now();
        finish(&self.model.forward(&[span], &mut cache)?);
        Ok(start.elapsed().as_secs_f64())
    }

    /// Mean seconds of a decode step, and the mean read bandwidth in GB/s between the steps; the
    /// first steps warm up.
    fn decode(&self, args: &Args, steps: usize, device: &B::Device) -> Result<(f64, f64)> {
        let warm_up = 2;
        let stream = cpu::roofs::ReadStream::new(ROOF_BYTES);
        let mut cache = self.cache(args.batch, args.depth + steps + warm_up, device);
        if args.depth > 0 {
            cache.fill_random(args.depth).context("--depth")?;
        }
        let (mut model_seconds, mut roof_seconds) = (0.0, 0.0);
        for step in 0..steps + warm_up {
            let ids: Vec<u32> = (0..args.batch).map(|i| self.token(step * 31 + i)).collect();
            let spans: Vec<Span<'_>> = (0..args.batch)
                .map(|i| Span {
                    sequence: SequenceId(i),
                    tokens: &ids[i..=i],
                    logits: LogitRows::Last,
                })
                .collect();
            let start = Instant::now();
            finish(&self.model.forward(&spans, &mut cache)?);
            let seconds = start.elapsed().as_secs_f64();
            let roof = stream.read();
            if step >= warm_up {
                model_seconds += seconds;
                roof_seconds += roof;
            }
        }
        let roof_bytes = (steps * stream.size_in_bytes()) as f64;
        Ok((model_seconds / steps as f64, roof_bytes / roof_seconds / 1e9))
    }

    fn token(&self, i: usize) -> u32 {
        (i * 7919 % self.config.vocab_size) as u32
    }

    /// Multiplications and additions of a prompt: projections, attention, the last row's head.
    fn prefill_flops(&self, tokens: usize) -> f64 {
        let c = &self.config;
        let (t, d) = (tokens as f64, c.hidden_size as f64);
        let q = (c.num_attention_heads * c.head_dim) as f64;
        let kv = (c.num_key_value_heads * c.head_dim) as f64;
        let projections = d * (2.0 * q + 2.0 * kv + 3.0 * c.intermediate_size as f64);
        let attention = 4.0 * q * t * (t + 1.0) / 2.0;
        let layers = c.num_hidden_layers as f64 * (2.0 * projections * t + attention);
        layers + 2.0 * d * c.vocab_size as f64
    }
}

/// Waits for the device.
fn finish<B: LmBackend>(logits: &Tensor<B, 2>) {
    let [rows, _] = logits.dims();
    if rows > 0 {
        let _ = logits.clone().narrow(1, 0, 1).into_data();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The largest resident set of this process so far, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
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
    println!("  peak memory       {:>10}", o.peak_rss_bytes.map_or("-".into(), gb));
}
