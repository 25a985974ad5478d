//! A question about pictures, for a model that sees: GLM-4.1V, GLM-4.6V-Flash, GLM-OCR.
//!
//! ```text
//! cargo run --release --example see -- --model GLM-4.1V-9B-Thinking --image photo.jpg --prompt "What is this?"
//! ```
//! `--image` may be given several times. The picture is turned into rows once; a second question about it (without `--prompt`
//! each line is one) costs what a question costs.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use lightglm::{Chat, IntoTurn, LoadOptions, Message, Turn, user};
use lightglm_examples::model_args::{MAX_CONTEXT, ModelArgs};
use lightglm_examples::sampling_args::SamplingArgs;

#[derive(Parser)]
#[command(about = "Ask a model about pictures")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// PNG, JPEG or WebP files.
    #[arg(long, required = true, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Answer this and end; without it, every line is a question.
    #[arg(long)]
    prompt: Option<String>,
    /// Longest conversation, in tokens; a picture takes one for each of its rows.
    #[arg(long, default_value_t = MAX_CONTEXT)]
    max_context: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let options = LoadOptions { max_context: Some(args.max_context), ..args.model.options() };
    let mut message = user();
    for file in &args.image {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        message = message.image(&bytes);
    }
    let model = args.model.open(options)?;
    let params = args.sampling.params(model.sampling())?;
    let mut chat = model.chat().with_sampling(params);
    lightglm_examples::cancel_on_ctrl_c(chat.cancel_token())?;
    if let Some(prompt) = &args.prompt {
        return answer(&mut chat, message.text(prompt).into_turn()?);
    }
    let mut first = Some(message);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let turn = match first.take() {
            Some(message) => message.text(line).into_turn()?,
            None => Message::user(line).into_turn()?,
        };
        answer(&mut chat, turn)?;
    }
    Ok(())
}

/// Prints the answer as it comes, and what the pictures cost.
fn answer(chat: &mut Chat, turn: Turn) -> Result<()> {
    let store = chat.model().media().cloned();
    let encoded = || store.as_ref().map_or(0, |store| store.stats().encoded);
    let (before, began) = (encoded(), Instant::now());
    let mut answer = chat.say(turn)?;
    let seen = began.elapsed().as_secs_f64();
    for piece in answer.by_ref() {
        print!("{}", piece?);
        // A closed pipe ends the program at the next print.
        let _ = std::io::stdout().flush();
    }
    let reply = answer.finish()?;
    println!();
    eprintln!(
        "[{} pictures encoded in {seen:.1} s; {} tokens read in {:.1} s, {} written in {:.1} s]",
        encoded() - before,
        reply.speed.prompt_tokens,
        reply.speed.prompt_seconds,
        reply.token_ids.len(),
        reply.speed.decode_seconds,
    );
    Ok(())
}
