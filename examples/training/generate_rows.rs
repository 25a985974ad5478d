//! Lets a teacher answer prompts, and writes its answers as rows that `finetune --train` reads.
//!
//! ```text
//! cargo run --release --example generate_rows -- --prompts FILE --model large --output rows.jsonl
//! cargo run --release --example generate_rows -- --prompts FILE --server http://127.0.0.1:8000 \
//!     --server-model NAME --output rows.jsonl
//! ```
//! Prompts are conversations in any of the shapes of docs/training.md; their last answers are not shown to the
//! teacher. It is a model on this machine, or one behind an OpenAI-compatible server, whose key is taken from the
//! environment (`OPENAI_API_KEY`, or what `--api-key-env` names). A server's rows have the likeliest tokens of each
//! place, where it says so. Rows are appended as they come: Ctrl-C ends the program, and `--resume` goes on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use lightglm::training::OnBadRow;
use lightglm::training::generations::{
    AnswerSource, GenerationOptions, Generations, generate_rows, prompts,
};
use lightglm::training::server_teacher::{ServerTeacher, ServerTeacherOptions};
use lightglm::{Error, Model, SamplingParams};
use lightglm_examples::model_args::ModelArgs;
use lightglm_examples::sampling_args::SamplingArgs;
use lightglm_examples::{progress_bar, stop_on_ctrl_c, use_threads};
use lightglm_training_examples::row_args::{RowArgs, read_rows};

#[derive(Parser)]
#[command(about = "Make rows of a teacher's answers")]
struct Args {
    /// The prompts: a file or a folder of files.
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Ask an OpenAI-compatible server at this address instead of a model on this machine.
    #[arg(long, value_name = "URL", requires = "server_model", conflicts_with = "model")]
    server: Option<String>,
    /// The model's name at the server.
    #[arg(long, value_name = "NAME", requires = "server")]
    server_model: Option<String>,
    /// The environment's variable with the server's key.
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    api_key_env: String,
    /// The likeliest tokens that the server is asked for in each place; 0 for text alone.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top_logprobs: usize,
    /// Requests to the server at a time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: usize,
    /// Seconds that the server may take for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Answers to each prompt.
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Keep answers that the limit of tokens cut.
    #[arg(long)]
    keep_cut: bool,
    /// Ask at most N prompts.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The file of rows.
    #[arg(long, value_name = "FILE", default_value = "generated.jsonl")]
    output: PathBuf,
    /// Continue with the prompts that have no answer in --output.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.model.threads)?;
    let stop = stop_on_ctrl_c()?;
    let examples = read_rows(&args.prompts, &args.rows.options(OnBadRow::Drop))?;
    let mut asked = prompts(&examples);
    asked.truncate(args.limit.unwrap_or(usize::MAX));
    ensure!(!asked.is_empty(), "{}: no row asks anything", args.prompts.display());

    let (teacher, own): (Box<dyn AnswerSource>, SamplingParams) = match args.server() {
        Some(options) => (Box::new(ServerTeacher::new(options)?), SamplingParams::default()),
        None => {
            let model = Model::open(args.model.name(), args.model.options())?;
            let own = model.sampling().clone();
            (Box::new(model), own)
        }
    };
    let options = GenerationOptions {
        sampling: args.sampling.params(&own)?,
        samples: args.samples,
        keep_cut: args.keep_cut,
        resume: args.resume,
        progress: progress_bar::on_stderr_until(stop),
    };
    match generate_rows(&*teacher, &asked, &args.output, &options) {
        Ok(outcome) => print(&args, &outcome),
        Err(Error::Interrupted { .. }) => {
            println!("interrupted; {} keeps what was answered: --resume", args.output.display());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl Args {
    /// Where the server is, if one is asked.
    fn server(&self) -> Option<ServerTeacherOptions> {
        let (server, model) = (self.server.as_ref()?, self.server_model.as_ref()?);
        Some(ServerTeacherOptions {
            api_key: std::env::var(&self.api_key_env).ok().filter(|key| !key.is_empty()),
            top_logprobs: self.top_logprobs,
            parallel: self.parallel,
            timeout: Duration::from_secs(self.timeout),
            ..ServerTeacherOptions::new(server, model)
        })
    }
}

fn print(args: &Args, outcome: &Generations) {
    let Generations { before, written, with_logprobs, cut, empty, refused, .. } = outcome;
    if *before > 0 {
        println!("{before} answers had been asked for before");
    }
    println!(
        "{}: {written} rows, {with_logprobs} of them with log-probabilities",
        args.output.display()
    );
    if args.server.is_some() && *with_logprobs < *written {
        println!("the others teach their text alone: the server gave no log-probabilities");
    }
    if cut + empty > 0 {
        println!("left out: {cut} cut by --max-tokens or going round in circles, {empty} empty");
    }
    for (line, reason) in refused.iter().take(10) {
        println!("line {line}: refused: {reason}");
    }
    if refused.len() > 10 {
        println!("and {} more refused", refused.len() - 10);
    }
}
