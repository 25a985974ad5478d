//! Makes the embedded default model, lightglm-tiny, from nothing, and scores it.
//!
//! ```text
//! cargo run --release --example tiny -- make --output DIR --text en=FILE --text zh=FILE
//! cargo run --release --example tiny -- score --model DIR/model
//! cargo run --release --example tiny -- show
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lightglm::training::{Method, ScheduleShape, TrainConfig, TrainingModel, TrainingOptions};
use lightglm::{KvDtype, LoadOptions, Model, Weights};
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use lightglm_kernels::keep_freed_memory;
use lightglm_tiny::corpus::{FactConversations, Language, Part, Random};
use lightglm_training_examples::tiny::questions::{self, Question};
use lightglm_training_examples::tiny::rows::{Corpus, Mix, row};
use lightglm_training_examples::tiny::start::{self, ShapeArgs};
use lightglm_training_examples::training_watch::WatchedRun;

#[derive(Parser)]
#[command(about = "Make and score the embedded model")]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The folder of facts.
    #[arg(long, global = true)]
    facts: Option<PathBuf>,
    /// A text whose sentences are asked for, too: en=FILE or zh=FILE; .zst is decompressed.
    #[arg(long = "text", global = true, value_name = "LANGUAGE=FILE")]
    texts: Vec<String>,
    /// Threads; all that the machine has if omitted.
    #[arg(long, global = true)]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    /// Print some of the conversations that are learnt.
    Show {
        #[arg(long, default_value_t = 6)]
        rows: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Train it.
    Make(MakeArgs),
    /// Ask it the held-back questions.
    Score {
        #[arg(long)]
        model: PathBuf,
        /// Print each answer.
        #[arg(long)]
        answers: bool,
        /// Made conversations of each held-back kind and language.
        #[arg(long, default_value_t = 100)]
        made: usize,
        /// Hold the weights as this scheme.
        #[arg(long)]
        scheme: Option<String>,
    },
}

#[derive(clap::Args)]
struct MakeArgs {
    #[arg(long)]
    output: PathBuf,
    /// Go on from this model instead of random weights.
    #[arg(long)]
    start: Option<PathBuf>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Conversations to learn.
    #[arg(long, default_value_t = 40_000)]
    rows: usize,
    /// Conversations of a step.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    #[arg(long, default_value = "cosine")]
    schedule: ScheduleShape,
    /// Of a hundred conversations, lists of keys and values.
    #[arg(long, default_value_t = 20)]
    lookups: usize,
    /// Of a hundred conversations, sentences of texts.
    #[arg(long, default_value_t = 25)]
    passages: usize,
    /// Keys of a list at most.
    #[arg(long, default_value_t = 9)]
    keys: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    keep_freed_memory();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/lightglm-tiny");
    let facts = args.facts.clone().unwrap_or_else(|| crates.join("data/facts"));
    let corpus = Corpus::read(&facts, &args.texts)?;
    match args.command {
        Command::Show { rows, seed } => {
            for i in 0..rows as u64 {
                let mix = Mix { lookups: 15, passages: 25, keys: 9 };
                let conversation = corpus.conversation(seed << 32 | i, mix);
                println!("--- {:?}", conversation.language);
                for (role, content) in conversation.turns(&mut Random::new(i)) {
                    println!("[{role}] {content}");
                }
            }
            Ok(())
        }
        Command::Make(make) => make_model(&corpus, &make),
        Command::Score { model, answers, made, scheme } => {
            score(&corpus, &crates, &model, answers, made, scheme.as_deref())
        }
    }
}

fn make_model(corpus: &Corpus, args: &MakeArgs) -> Result<()> {
    let stop = stop_on_ctrl_c()?;
    std::fs::create_dir_all(&args.output)?;
    let start = args.start.clone().unwrap_or_else(|| args.output.join("start"));
    if !start.join("config.json").exists() {
        eprintln!("learning a tokenizer");
        start::write(&start, &args.shape, &corpus.tokenizer_texts(args.seed), args.seed)?;
    }
    let progress = progress_bar::on_stderr();
    let options = TrainingOptions {
        max_tokens: args.max_tokens,
        seed: args.seed,
        progress,
        ..Default::default()
    };
    let mut student = TrainingModel::open_with(&start, Method::Full, options)?;
    let mix = Mix { lookups: args.lookups, passages: args.passages, keys: args.keys };
    let rows = student.tokenize_examples(&corpus.rows(args.seed, args.rows, mix))?;
    let held = corpus.rows(args.seed + 1_000_000, 100, mix);
    let held = student.tokenize_examples(&held)?.rows;
    let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
    let labels: usize = rows.iter().map(|row| row.labels()).sum();
    eprintln!("{} rows, {tokens} tokens, {labels} learnt; {}", rows.len(), rows.report);
    let mut config = TrainConfig {
        batch_size: args.batch_size,
        epochs: 1,
        learning_rate: args.learning_rate,
        schedule: args.schedule,
        warmup_ratio: 0.02,
        micro_batch_tokens: 4096,
        seed: args.seed,
        checkpoint_every: Some(250),
        evaluate_every: Some(250),
        ..TrainConfig::default()
    };
    config.optimizer.beta2 = 0.98;
    config.optimizer.weight_decay = 0.05;
    let title = format!("{} on {} rows", student.method().describe(), rows.len());
    let run = WatchedRun::open(&args.output, args.resume, title)?;
    let Some(trained) = run.train(&mut student, &rows, &held, &config, stop)? else {
        return Ok(());
    };
    student.save(args.output.join("model"))?;
    eprintln!("{} steps in {:.0} s", trained.steps, trained.seconds);
    Ok(())
}

fn score(
    corpus: &Corpus,
    crates: &Path,
    model: &Path,
    print: bool,
    made: usize,
    scheme: Option<&str>,
) -> Result<()> {
    let mut options = LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() };
    if let Some(scheme) = scheme {
        options.weights = Weights::scheme(scheme)?;
    }
    let model = Model::open(model, options)?;
    let progress = progress_bar::on_stderr();
    for language in Language::ALL {
        let tag = if language == Language::English { "en" } else { "zh" };
        let file = crates.join(format!("tests/questions/{tag}.jsonl"));
        let mut sets = vec![(format!("{tag} by hand"), questions::read(&file)?)];
        for (name, part) in [
            ("made, learnt questions", Part::Training),
            ("made, held-back questions", Part::HeldBackQuestions),
            ("made, held-back domains", Part::HeldBackDomains),
        ] {
            let facts = FactConversations::new(corpus.domains(), part).context("no such facts")?;
            let mut random = Random::new(77);
            let asked: Vec<Question> = (0..made)
                .flat_map(|i| questions::of_conversation(i, &facts.next(language, 3, &mut random)))
                .collect();
            sets.push((format!("{tag} {name}"), asked));
        }
        for (name, asked) in sets {
            let (answers, score) = questions::ask(&model, language, &asked, &progress)?;
            println!("{name}: {score}");
            if print {
                for (question, answer) in asked.iter().zip(&answers) {
                    let wanted = question.answers.first().map_or("-", String::as_str);
                    let f1 = questions::f1(question, answer, language);
                    println!(
                        "  {} {}\n    wanted {wanted}\n    {f1:.2} {answer}",
                        question.id, question.question
                    );
                }
            }
        }
    }
    let _ = row;
    Ok(())
}
