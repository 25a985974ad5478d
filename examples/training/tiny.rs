//! Makes a very small model that answers from a short text (`lightglm-tiny`), from nothing, and scores it. Ctrl-C saves,
//! and the same command goes on.
//!
//! ```text
//! cargo run --release --example tiny -- make --output DIR --text en=FILE --text zh=FILE
//! cargo run --release --example tiny -- score --model DIR/9-packed/model
//! cargo run --release --example tiny -- show
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use lightglm::{KvDtype, LoadOptions, Model, Scheme, Weights};
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use lightglm_kernels::keep_freed_memory;
use lightglm_tiny::corpus::{
    CorpusConversation, FactConversations, FactSettings, Language, LookupConversations, Part,
    Random, WordSentences, WordSettings,
};
use lightglm_training_examples::tiny::grow;
use lightglm_training_examples::tiny::questions::{self, Question};
use lightglm_training_examples::tiny::rows::{Corpus, Mix};
use lightglm_training_examples::tiny::stages::{PACKED, STAGES, STAGES_OF_TWO, Stage};
use lightglm_training_examples::tiny::start::{self, ShapeArgs};

#[derive(Parser)]
#[command(about = "Make and score a model that answers from a short text")]
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
    /// The folder of all stages; what is there is not done again.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Times the rows of each stage.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// What the matrices become at the end.
    #[arg(long, default_value = "int8")]
    scheme: Scheme,
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
                let mix = Mix {
                    lookups: 15,
                    words: 15,
                    word_sentences: WordSettings::default(),
                    passages: 25,
                    lists: LookupConversations::default(),
                    facts: FactSettings::default(),
                };
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

/// All stages, each from where it was left.
fn make_model(corpus: &Corpus, args: &MakeArgs) -> Result<()> {
    ensure!(args.scale.is_finite() && args.scale > 0.0, "--scale {}: must be positive", args.scale);
    let grows = grow::grows(&args.shape.config()?)?;
    let stop = stop_on_ctrl_c()?;
    std::fs::create_dir_all(&args.output)?;
    let start = args.output.join("0-start");
    if !start.join("config.json").exists() {
        eprintln!("learning a tokenizer");
        start::write(&start, &args.shape, &corpus.tokenizer_texts(1), 1)?;
    }
    let scaled = |stage: Stage| Stage {
        rows: ((stage.rows as f64 * args.scale) as usize).max(stage.batch_size),
        ..stage
    };
    // The model that comes out of the last of some stages; none where they were interrupted.
    let learn = |stages: &[Stage], mut model: PathBuf| -> Result<Option<PathBuf>> {
        for stage in stages.iter().copied().map(scaled) {
            let output = args.output.join(stage.name);
            if !is_model(&output) && !stage.run(corpus, &model, &output, stop.clone())? {
                return Ok(None);
            }
            model = output.join("model");
        }
        Ok(Some(model))
    };
    let mut model = start.clone();
    if grows {
        let two = args.output.join("0-start-of-two");
        if !two.join("config.json").exists() {
            start::write_like(&start, &two, grow::FIRST_BLOCKS, 2)?;
        }
        model = two;
    }
    let Some(mut model) = learn(&STAGES_OF_TWO, model)? else { return Ok(()) };
    if grows {
        let grown = args.output.join("3-grown");
        if !grown.join("config.json").exists() {
            grow::grow(&model, &start, &grown, 3)?;
        }
        model = grown;
    }
    let Some(model) = learn(&STAGES, model)? else { return Ok(()) };
    let output = args.output.join(PACKED);
    let last = scaled(STAGES[STAGES.len() - 1]);
    if is_model(&output) || last.pack(corpus, &model, args.scheme, &output, stop)? {
        println!("{}", output.join("model").display());
    }
    Ok(())
}

fn is_model(output: &Path) -> bool {
    output.join("model/config.json").exists()
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
        let ask_made = |next: &dyn Fn(&mut Random) -> CorpusConversation| -> Vec<Question> {
            let mut random = Random::new(77);
            (0..made).flat_map(|i| questions::of_conversation(i, &next(&mut random))).collect()
        };
        // Copying by itself: what is asked for stands there to the letter, at the beginning of its sentence or within.
        for (name, inside) in [("lists by their keys", 0), ("sentences by a word in them", 100)] {
            let lists = LookupConversations { keys: 6, inside, unanswerable: 20 };
            let asked = ask_made(&|random| lists.next(language, 3, random));
            sets.push((format!("{tag} {name}"), asked));
        }
        let by_word = WordSentences::new(corpus.domains());
        for words in [4, 8, 16] {
            let settings = WordSettings { words, ..WordSettings::default() };
            let asked = ask_made(&|random| {
                let made = by_word.next(language, settings, random);
                made.unwrap_or_else(|| LookupConversations::default().next(language, 3, random))
            });
            sets.push((format!("{tag} sentences of up to {words} words"), asked));
        }
        let usual = FactSettings { questions: 3, ..Default::default() };
        // Found by the letter: a phrase of one of a few sentences.
        let by_phrase = FactSettings { facts: 3, words: 100, phrases: 100, ..usual };
        for (name, part, settings) in [
            ("facts by a phrase of theirs", Part::Training, by_phrase),
            ("made, learnt questions", Part::Training, usual),
            ("made, held-back questions", Part::HeldBackQuestions, usual),
            ("made, held-back domains", Part::HeldBackDomains, usual),
        ] {
            let facts = FactConversations::new(corpus.domains(), part).context("no such facts")?;
            let facts = facts.with_settings(settings);
            let asked = ask_made(&|random| facts.next(language, random));
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
    Ok(())
}
