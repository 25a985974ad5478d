//! Teaches a model to bear its own quantization, and shows what that saves.
//!
//! ```text
//! cargo run --release --example qat -- --scheme int4wo-g128 --train TEXT --test TEXT --output DIR
//! ```
//! trains with weights (and activations, where the scheme has them) rounded as the packed model will
//! round them, towards the model before quantization: nobody needs labels for that, any text of the kind
//! that the model will meet does. Then it packs the trained weights and compares, on the test rows, the
//! dense model, the model rounded to nearest, and the trained one: perplexity, and how much of the gap
//! is made up for. Files are those of `finetune`: plain text, or rows of conversations, of which the
//! answers count; the examples' own where left out, which are too few for numbers to be quoted.
//!
//! DIR gets checkpoints (`--resume`), `metrics.jsonl`, `loss.svg`, `qat.json` and the packed model,
//! `model/`, which `chat`, `evaluate` and `bench` open. `--lora RANK` trains adapters in place of all
//! weights; they are added to the weights before these are rounded. Ctrl-C saves and ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::{
    Activations, CausalLm, LabelledSpan, LogitRows, SequenceId, Span, TrainableLm, WeightDtype,
};
use lightglm_core::{KvDtype, KvShape};
use lightglm_examples::model_folder::ModelFolder;
use lightglm_examples::serving::quantize_source;
use lightglm_examples::training_watch::{TrainingWatch, open_run, peak_resident_bytes};
use lightglm_examples::whole_file::write_whole;
use lightglm_examples::{open_model, stop_on_ctrl_c, use_threads};
use lightglm_generation::ContiguousKvCache;
use lightglm_hub::DEFAULT_MODEL;
use lightglm_kernels::{LmBackend, WeightBits, keep_freed_memory};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DecoderWeights, DenseGlm, Glm, LoadPrecision};
use lightglm_quant::qat::Prepare;
use lightglm_quant::{CheckpointQuantizer, Policy, Scheme};
use lightglm_train::data::{
    ConversationTokenizer, DataFormat, OnBadRow, ReadOptions, TextUnit, epoch_order, read_examples,
};
use lightglm_train::lora::{Lora, LoraConfig};
use lightglm_train::objectives::TowardsTeacher;
use lightglm_train::optimizer::ScheduleShape;
use lightglm_train::trainer::{StopReason, TokenizedExample, TrainConfig, TrainOutcome, Trainer};
use serde::Serialize;

type Train = Autodiff<Flex>;

#[derive(Parser)]
#[command(about = "Train a model with its quantization simulated")]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// What the matrices become: int4, int4wo-g128, w8a8, ...
    #[arg(long, default_value = "int4wo-g128")]
    scheme: Scheme,
    /// As --scheme, with a scheme per matrix: names or patterns, the first that matches holds.
    #[arg(long, value_name = "PATTERN=SCHEME,...", conflicts_with = "scheme")]
    policy: Option<Policy>,
    /// Learn from these rows.
    #[arg(long, requires = "test")]
    train: Option<PathBuf>,
    /// Measure on these rows.
    #[arg(long, requires = "train")]
    test: Option<PathBuf>,
    /// The files' format; found out where left out.
    #[arg(long)]
    format: Option<DataFormat>,
    /// Tokens of a row at most: texts are cut, longer conversations are dropped.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Learn from so many rows (pieces of a text) at most, drawn by the seed.
    #[arg(long, default_value_t = 800)]
    limit: usize,
    /// Measure on so many rows (pieces of a text) at most, the first ones.
    #[arg(long, default_value_t = 100)]
    test_limit: usize,
    /// Train adapters of this rank instead of all weights.
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// Share of the divergence from the dense model in the loss; the rest is that of the text.
    #[arg(long, default_value_t = 1.0)]
    kl_weight: f64,
    /// Simulate an eight-bit KV cache, too.
    #[arg(long)]
    int8_kv: bool,
    /// Times that each row is seen.
    #[arg(long, default_value_t = 1)]
    epochs: usize,
    /// Rows of a step.
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// The largest learning rate; where left out 1e-3 for adapters, and for all weights 5e-5, or 1e-5
    /// where none of them gets fewer than eight bits.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// How it falls: constant, linear, cosine.
    #[arg(long, default_value = "cosine")]
    schedule: ScheduleShape,
    /// Steps between checkpoints; at the end of each epoch where left out.
    #[arg(long)]
    checkpoint_every: Option<u64>,
    /// Compute blocks again in the backward pass: less memory, a third more time.
    #[arg(long)]
    recompute: bool,
    /// Go on behind the last checkpoint in --output.
    #[arg(long)]
    resume: bool,
    /// Decides which rows are learnt from, and in which order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder for checkpoints, metrics, curves and the packed model.
    #[arg(long, default_value = "quantization-aware")]
    output: PathBuf,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    policy: String,
    method: String,
    seed: u64,
    train_rows: usize,
    train_tokens: usize,
    test_rows: usize,
    test_labels: usize,
    dense_perplexity: f64,
    /// Rounded to nearest, without training.
    rounded_perplexity: f64,
    trained_perplexity: f64,
    /// Share of the gap between dense and rounded that training made up for.
    recovered: f64,
    /// `trained / dense - 1`.
    rise: f64,
    outcome: TrainOutcome,
    training_seconds: f64,
    peak_resident_bytes: Option<u64>,
    threads: usize,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let threads = use_threads(args.threads)?;
    ensure!((0.0..=1.0).contains(&args.kl_weight), "--kl-weight must be between 0 and 1");
    ensure!(args.context > 1, "--context must be at least 2");
    keep_freed_memory();
    let stop = stop_on_ctrl_c()?;
    let checkpoint = open_model(args.model.as_deref())?;
    let policy = args.policy.clone().unwrap_or_else(|| Policy::uniform(args.scheme));
    let study = Study { args: &args, checkpoint: &checkpoint, policy, stop, threads };
    let (train, test) = study.rows()?;

    let f32 = LoadPrecision::Convert(WeightDtype::F32);
    let model = checkpoint.load::<Train>(f32, &FlexDevice)?;
    let teacher = model.valid();
    let mut prepare = Prepare::new(&study.policy);
    if args.int8_kv {
        prepare = prepare.with_int8_kv(checkpoint.config().head_dim);
    }
    match args.lora {
        None => {
            let model = model
                .try_map_linears(|name, linear| prepare.linear(name, linear))?
                .try_map_embedding(|table| prepare.embedding("model.embed_tokens", table.weight))?;
            prepare.finish()?;
            study.run(model, &teacher, train, &test, Glm::weights)
        }
        Some(rank) => {
            let alpha = 2.0 * rank as f64;
            let config = LoraConfig { rank, alpha, ..LoraConfig::default() };
            let lora = Lora::new("default", config, args.seed)?;
            let model = model
                .no_grad()
                .try_map_linears(|name, linear| prepare.linear(name, lora.wrap(name, linear)))?
                .try_map_embedding(|table| prepare.embedding("model.embed_tokens", table.weight))?;
            prepare.finish()?;
            study.run(model, &teacher, train, &test, Glm::weights)
        }
    }
}

/// Whether `scheme` leaves a weight eight bits or more.
fn keeps_eight_bits(scheme: Scheme) -> bool {
    match scheme {
        Scheme::Dense => true,
        Scheme::Quantized(scheme) => scheme.weight.bits == WeightBits::Eight,
    }
}

struct Study<'a> {
    args: &'a Args,
    checkpoint: &'a Checkpoint,
    policy: Policy,
    stop: Arc<AtomicBool>,
    threads: usize,
}

impl Study<'_> {
    /// The rows to learn from, and those to measure on.
    fn rows(&self) -> Result<(Vec<TokenizedExample>, Vec<TokenizedExample>)> {
        let args = self.args;
        let text = self.checkpoint.text()?;
        let tokenizer = ConversationTokenizer::new(&text);
        let options = ReadOptions {
            format: args.format,
            on_bad_row: OnBadRow::Drop,
            text_unit: TextUnit::File,
            // A text file is one row.
            max_row_bytes: 1 << 30,
            ..ReadOptions::default()
        };
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let of = |given: &Option<PathBuf>, own: &str| given.clone().unwrap_or(data.join(own));
        let read = |path: PathBuf| {
            let mut set = read_examples(&path, &options)?;
            let longest = args.context.min(self.checkpoint.config().max_position_embeddings);
            let rows = tokenizer.tokenize(&set.examples, longest, &mut set.report);
            if set.report.total_dropped() > 0 {
                eprintln!("{}:\n{}", path.display(), set.report);
            }
            let mut rows = rows.with_context(|| path.display().to_string())?;
            rows.retain(|row| row.labels() > 0);
            Ok::<_, anyhow::Error>(rows)
        };
        let all = read(of(&args.train, "faq_train.jsonl"))?;
        let order = epoch_order(all.len(), args.seed, 0);
        let train = order.into_iter().take(args.limit).map(|i| all[i].clone()).collect();
        let mut test = read(of(&args.test, "faq_test.jsonl"))?;
        test.truncate(args.test_limit);
        ensure!(!test.is_empty(), "no row to measure on");
        Ok((train, test))
    }

    /// Trains, packs, measures and writes.
    fn run<M: TrainableLm<Train>>(
        &self,
        model: M,
        teacher: &DenseGlm<Flex>,
        train: Vec<TokenizedExample>,
        test: &[TokenizedExample],
        weights: impl FnOnce(&M) -> DecoderWeights,
    ) -> Result<()> {
        let args = self.args;
        let default_rate = match args.lora {
            Some(_) => 1e-3,
            // There is less to win back, and less that a step may cost.
            None if self.policy.rules().all(|(_, scheme)| keeps_eight_bits(scheme)) => 1e-5,
            None => 5e-5,
        };
        let config = TrainConfig {
            batch_size: args.batch_size,
            epochs: args.epochs,
            learning_rate: args.learning_rate.unwrap_or(default_rate),
            schedule: args.schedule,
            micro_batch_tokens: args.context.max(1024),
            activations: match args.recompute {
                true => Activations::Recompute,
                false => Activations::Keep,
            },
            seed: args.seed,
            checkpoint_every: args.checkpoint_every,
            ..TrainConfig::default()
        };
        // Before anything is asked or written.
        config.check()?;
        let (folder, metrics) = open_run(&args.output, args.resume)?;
        let dense_perplexity = self.perplexity(teacher, test, "dense")?;
        let rounded = self.packed(&teacher.weights())?;
        let rounded_perplexity = self.perplexity(&*rounded, test, "rounded to nearest")?;
        drop(rounded);

        let logits = |batch: &[LabelledSpan<'_>]| teacher.labelled_logits(batch);
        let objective = TowardsTeacher::new(logits, args.kl_weight, 1.0);
        let mut watch = TrainingWatch::new(metrics, Arc::clone(&self.stop))?;
        let started = Instant::now();
        let trained = Trainer::new(&config, &objective).with_checkpoints(&folder, args.resume).run(
            model,
            &train,
            &mut |event| watch.see(event),
        );
        let training_seconds = started.elapsed().as_secs_f64();
        let title = format!("{} towards {}", self.method(), self.policy);
        watch.finish(&title, &args.output.join("loss.svg"))?;
        let (model, outcome) = trained?;
        if outcome.reason == StopReason::Interrupted {
            eprintln!("interrupted behind step {}; go on with --resume", outcome.step);
            return Ok(());
        }
        let weights = weights(&model);
        let packed = self.packed(&weights)?;
        let trained_perplexity = self.perplexity(&*packed, test, "trained")?;
        self.save(&weights)?;
        let report = Report {
            model: args.model.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            policy: self.policy.to_string(),
            method: self.method(),
            seed: args.seed,
            train_rows: train.len(),
            train_tokens: train.iter().map(|row| row.tokens.len()).sum(),
            test_rows: test.len(),
            test_labels: test.iter().map(TokenizedExample::labels).sum(),
            dense_perplexity,
            rounded_perplexity,
            trained_perplexity,
            recovered: (rounded_perplexity - trained_perplexity)
                / (rounded_perplexity - dense_perplexity),
            rise: trained_perplexity / dense_perplexity - 1.0,
            outcome,
            training_seconds,
            peak_resident_bytes: peak_resident_bytes(),
            threads: self.threads,
        };
        let json = serde_json::to_string_pretty(&report)?;
        write_whole(&args.output.join("qat.json"), &json)?;
        match args.json {
            true => println!("{json}"),
            false => print(&report, &args.output),
        }
        Ok(())
    }

    fn method(&self) -> String {
        match self.args.lora {
            None => "all weights".to_owned(),
            Some(rank) => format!("LoRA of rank {rank}"),
        }
    }

    /// The packed model that these weights make.
    fn packed(&self, weights: &DecoderWeights) -> Result<Box<dyn CausalLm<Flex>>> {
        let (config, file) = (self.checkpoint.config(), Path::new("trained weights"));
        let packed = quantize_source::<Flex>(config, weights, file, &self.policy, &FlexDevice)?;
        Ok(Box::new(packed.model))
    }

    fn save(&self, weights: &DecoderWeights) -> Result<()> {
        let folder = self.args.output.join("model");
        let output = ModelFolder::begin(&folder, self.checkpoint, Some(&self.policy))?;
        let quantizer =
            CheckpointQuantizer::new(weights, Path::new("trained weights"), &self.policy);
        quantizer.save(&output.weights(), &weights.shapes())?;
        Ok(output.finish()?)
    }

    /// Perplexity over the labels of `rows`, each row on its own.
    fn perplexity(
        &self,
        model: &dyn CausalLm<Flex>,
        rows: &[TokenizedExample],
        what: &str,
    ) -> Result<f64> {
        let style = "{msg} {bar:30} {pos}/{len} rows, {eta} left";
        let bar = ProgressBar::new(rows.len() as u64)
            .with_style(ProgressStyle::with_template(style)?)
            .with_message(format!("perplexity, {what}"));
        let (mut loss, mut labels) = (0.0, 0);
        for row in rows {
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted while measuring");
            let shape = KvShape::of(self.checkpoint.config());
            let length = row.tokens.len();
            let mut cache = ContiguousKvCache::new(shape, 1, length, KvDtype::F32, &FlexDevice);
            let span =
                Span { sequence: SequenceId(0), tokens: &row.tokens, logits: LogitRows::All };
            let logits = model.forward(&[span], &mut cache)?;
            let span = LabelledSpan { tokens: &row.tokens, targets: &row.targets };
            let targets: Vec<u32> = row.targets.iter().flatten().copied().collect();
            let losses = Flex::cross_entropy(labelled(logits, &[span]), &targets);
            let losses = losses.into_data().to_vec::<f32>();
            let losses = losses.map_err(|error| anyhow::anyhow!("{error:?}"))?;
            loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
            labels += targets.len();
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((loss / labels as f64).exp())
    }
}

/// Of logits of all rows, those of the labelled ones.
fn labelled(logits: Tensor<Flex, 2>, batch: &[LabelledSpan<'_>]) -> Tensor<Flex, 2> {
    let targets = batch.iter().flat_map(|span| span.targets);
    let labelled = targets.enumerate().filter(|(_, target)| target.is_some());
    let rows: Vec<i32> = labelled.map(|(row, _)| row as i32).collect();
    let n = rows.len();
    let rows = Tensor::<Flex, 1, Int>::from_data(TensorData::new(rows, [n]), &FlexDevice);
    logits.select(0, rows)
}

fn print(report: &Report, output: &Path) {
    println!("| model | perplexity | above dense |\n|---|---|---|");
    let line = |name: &str, perplexity: f64| {
        let rise = 100.0 * (perplexity / report.dense_perplexity - 1.0);
        println!("| {name} | {perplexity:.4} | {rise:+.2} % |");
    };
    line("dense", report.dense_perplexity);
    line(&format!("{}, rounded to nearest", report.policy), report.rounded_perplexity);
    line(&format!("{}, trained", report.policy), report.trained_perplexity);
    println!(
        "\n{:.0} % of the gap made up for by {} steps on {} tokens ({}), {:.0} s; measured on {} \
         labels of {} rows",
        100.0 * report.recovered,
        report.outcome.step,
        report.train_tokens,
        report.method,
        report.training_seconds,
        report.test_labels,
        report.test_rows,
    );
    println!("packed model: {}", output.join("model").display());
}
