//! A student cut out of a teacher, and what that costs; or a student on paper.
//!
//! ```text
//! cargo run --release --example prune -- --model DIR --layers 24 --calibration TEXT --output DIR
//! cargo run --release --example prune -- --model DIR --ffn 1024 --hidden 512 --vocabulary --calibration TEXT --output DIR
//! cargo run --release --example prune -- --model glm-4-9b-0414 --layers 28 --hidden 2560 --ffn 8192 --heads 24 --plan
//! ```
//! The text decides which layers, neurons, heads and channels go, and with `--vocabulary` which tokens stay. Parameters,
//! bytes and the perplexity of a text that decided nothing are printed before and after. A pruned model is worse until it
//! is taught: `finetune --full`, or a distillation towards its teacher. `--plan` writes nothing and says what such a
//! student would cost; `--scratch` writes one of these sizes that knows nothing yet. Ctrl-C stops, and leaves what was there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use lightglm::checkpoint::{self, Checkpoint};
use lightglm::evaluate::{TextOptions, first_tokens};
use lightglm::prune::{
    KeepTokens, ModelSize, PlanOptions, PruneOptions, ScratchOptions, Wanted, config_of,
    from_scratch, plan, prune, shape_of, this_machine,
};
use lightglm::{Error, LoadOptions, Model, ProgressSink, SMALL_MODEL, WeightDtype};
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use lightglm_model::config::GlmConfig;
use lightglm_training_examples::plan_table;
use serde::Serialize;

/// What models are compared on if no text is given: a few paragraphs in English and Chinese.
const TEXT: &str = include_str!("../text/english_and_chinese.txt");

#[derive(Parser)]
#[command(about = "Cut a smaller model out of a larger one")]
struct Args {
    /// The teacher, dense: a folder, a .gguf file, or a hub id. If omitted smollm2-135m-instruct, which is quantized, and so good
    /// for --plan and --scratch alone.
    #[arg(long)]
    model: Option<String>,
    /// The folder to write.
    #[arg(long, required_unless_present = "plan")]
    output: Option<PathBuf>,
    /// Keep this many layers.
    #[arg(long)]
    layers: Option<usize>,
    /// Keep this many channels of the residual stream.
    #[arg(long)]
    hidden: Option<usize>,
    /// Keep this many neurons of each feed-forward part.
    #[arg(long)]
    ffn: Option<usize>,
    /// Keep this many query heads, as many for each key and value head.
    #[arg(long)]
    heads: Option<usize>,
    /// Keep this many key and value heads.
    #[arg(long)]
    key_value_heads: Option<usize>,
    /// Keep only the tokens of the calibration text (all of it), bytes and special tokens.
    #[arg(long, requires = "calibration")]
    vocabulary: bool,
    /// The text that decides: real text of the kind that the student will meet.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Measure importance on at most this many tokens of it.
    #[arg(long, default_value_t = 16_384)]
    calibration_tokens: usize,
    /// Compare on this text instead of the built-in one.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Compare on at most this many tokens.
    #[arg(long, default_value_t = 4096)]
    limit: usize,
    /// Only write, compare nothing.
    #[arg(long)]
    no_eval: bool,
    /// Write random weights of these sizes instead, with the teacher's tokenizer and template.
    #[arg(long, conflicts_with_all = ["vocabulary", "calibration"])]
    scratch: bool,
    /// Write nothing: say what such a student would cost. --model may be a config.json alone.
    #[arg(long)]
    plan: bool,
    /// Tokens that the plan's student learns from.
    #[arg(long, default_value_t = 1e9)]
    tokens: f64,
    /// The f32 multiply-adds of this machine, two operations each; measured if omitted.
    #[arg(long, value_name = "GFLOP/S")]
    machine_gflops: Option<f64>,
    /// Replace what is in the folder.
    #[arg(long)]
    force: bool,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    threads: Option<usize>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// A model before or after.
#[derive(Serialize)]
struct Side {
    #[serde(flatten)]
    size: ModelSize,
    perplexity: Option<f64>,
    /// Of the text's bytes, which models with other tokens share.
    bits_per_byte: Option<f64>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    output: PathBuf,
    layers: Vec<usize>,
    vocab_size: usize,
    before: Side,
    after: Side,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let progress = progress_bar::on_stderr_until(stop_on_ctrl_c()?);
    let model = args.model.as_deref().unwrap_or(SMALL_MODEL);
    if args.plan {
        return print_plan(&args, &plan_table::config(model, &progress)?);
    }
    let checkpoint = checkpoint::open(model, &progress)?;
    let output = args.output.clone().context("--output says where the student goes")?;
    if args.scratch {
        return write_scratch(&args, &checkpoint, &output, progress);
    }
    let options = options(&args, &checkpoint, progress)?;
    let report = prune(&checkpoint, &options, &output).map_err(|error| match error {
        Error::FolderNotEmpty { .. } => anyhow!("{error} (--force replaces it)"),
        Error::Interrupted { .. } => anyhow!("stopped, nothing was written"),
        error => error.into(),
    })?;
    let outcome = Outcome {
        before: side(&args, checkpoint.path(), report.before)?,
        after: side(&args, &output, report.after)?,
        output,
        layers: report.slice.layers,
        vocab_size: report.config.vocab_size,
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&outcome)?),
        false => print(&outcome),
    }
    Ok(())
}

fn wanted(args: &Args) -> Wanted {
    Wanted {
        num_hidden_layers: args.layers,
        hidden_size: args.hidden,
        intermediate_size: args.ffn,
        num_attention_heads: args.heads,
        num_key_value_heads: args.key_value_heads,
    }
}

fn options(args: &Args, checkpoint: &Checkpoint, progress: ProgressSink) -> Result<PruneOptions> {
    let wanted = wanted(args);
    let text = match &args.calibration {
        Some(file) => read("--calibration", file)?,
        None => {
            let shape = shape_of(checkpoint.config());
            ensure!(wanted.shape(&shape)? == shape, "a text decides what goes: --calibration FILE");
            String::new()
        }
    };
    let calibration = match text.is_empty() {
        true => Vec::new(),
        false => first_tokens(&checkpoint.tokenizer()?, &text, args.calibration_tokens)?,
    };
    let vocabulary = args.vocabulary.then(|| KeepTokens { texts: vec![text], ids: Vec::new() });
    let overwrite = args.force;
    Ok(PruneOptions { wanted, vocabulary, calibration, overwrite, progress, ..Default::default() })
}

fn side(args: &Args, model: &Path, size: ModelSize) -> Result<Side> {
    if args.no_eval {
        return Ok(Side { size, perplexity: None, bits_per_byte: None });
    }
    let text = args.text.as_deref().map_or(Ok(TEXT.to_owned()), |file| read("--text", file))?;
    let progress = progress_bar::on_stderr();
    let model =
        Model::open(model, LoadOptions { progress: progress.clone(), ..Default::default() })?;
    // The same bytes, whatever tokens they are cut into.
    let tokens = first_tokens(&model.text().tokenizer, &text, args.limit)?;
    let text = model.text().tokenizer.decode(&tokens, false);
    let options = TextOptions { progress, ..TextOptions::default() };
    let found = model.perplexity(&text, &options)?;
    let bits = found.nll_mean * found.tokens as f64 / std::f64::consts::LN_2 / text.len() as f64;
    Ok(Side { size, perplexity: Some(found.perplexity), bits_per_byte: Some(bits) })
}

fn read(option: &str, file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{option} {}", file.display()))
}

fn print(outcome: &Outcome) {
    let Outcome { output, layers, vocab_size, before, after } = outcome;
    println!("{}: layers {layers:?} of the teacher, {vocab_size} tokens", output.display());
    println!(
        "{:<10}{:>14}{:>12}{:>14}{:>15}",
        "", "parameters", "MB", "perplexity", "bits per byte"
    );
    for (name, side) in [("before", before), ("after", after)] {
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let megabytes = side.size.bytes as f64 / 1e6;
        let (perplexity, bits) = (number(side.perplexity), number(side.bits_per_byte));
        let parameters = side.size.parameters;
        println!("{name:<10}{parameters:>14}{megabytes:>12.1}{perplexity:>14}{bits:>15}");
    }
}

fn print_plan(args: &Args, teacher: &GlmConfig) -> Result<()> {
    let student = config_of(teacher, &wanted(args).shape(&shape_of(teacher))?);
    let mut options = PlanOptions { tokens: args.tokens, ..PlanOptions::default() };
    options.machines.push(this_machine(args.machine_gflops)?);
    options.teacher = (student != *teacher).then(|| teacher.clone());
    let report = plan(&student, &options)?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => plan_table::print(&report, options.context),
    }
    Ok(())
}

fn write_scratch(
    args: &Args,
    checkpoint: &Checkpoint,
    output: &Path,
    progress: ProgressSink,
) -> Result<()> {
    let teacher = checkpoint.config();
    let config = config_of(teacher, &wanted(args).shape(&shape_of(teacher))?);
    let dtype = WeightDtype::F32;
    let options = ScratchOptions { dtype, overwrite: args.force, progress, ..Default::default() };
    let (_, size) = from_scratch(checkpoint, &config, &options, output)?;
    println!("{}: {} parameters that know nothing yet", output.display(), size.parameters);
    Ok(())
}
