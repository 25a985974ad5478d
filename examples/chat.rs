//! A conversation in the terminal, or one question with `--prompt`.
//!
//! `cargo run --release --example chat -- --context FILE --prompt "My parcel has not arrived. What should I do?"`
//! answers from a text and ends; without `--prompt` it is a conversation with history, and `/help` lists what
//! else it understands. Without `--model` the model that is compiled in answers, which needs a text. `--json` (with
//! `--prompt`) prints one object: prompt_token_ids, token_ids, logprobs, text.
//!
//! The whole conversation is rendered anew each turn by the model's own chat template; what the
//! cache holds already is not computed again. Text you type never becomes a control token.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{Chat, FinishReason, LoadOptions, Reply, SamplingParams};
use lightglm_examples::adapter_args::AdapterArgs;
use lightglm_examples::model_args::{MAX_CONTEXT, ModelArgs, tell_context};
use lightglm_examples::sampling_args::SamplingArgs;
use rustyline::error::ReadlineError;

#[derive(Parser)]
#[command(about = "Talk to a model")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Answer this and end.
    #[arg(long)]
    prompt: Option<String>,
    /// Instructions that stand before the conversation.
    #[arg(long)]
    system: Option<String>,
    /// A text file to answer from.
    #[arg(long)]
    context: Option<PathBuf>,
    /// Longest conversation, in tokens: 8192 if omitted, or what the model was made for where that is less.
    #[arg(long)]
    max_context: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens of thoughts at most, for a model that writes <think>...</think> before it answers.
    #[arg(long)]
    thinking_budget: Option<usize>,
    /// Variables of the model's chat template, as a JSON object: '{"enable_thinking": false}'.
    #[arg(long, value_name = "JSON")]
    chat_template_kwargs: Option<String>,
    /// One JSON object instead of text (needs --prompt).
    #[arg(long, requires = "prompt")]
    json: bool,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let max_context = Some(args.max_context.unwrap_or(MAX_CONTEXT));
    let options = LoadOptions { max_context, ..args.model.options() };
    let model = args.adapter.open(&args.model, options)?;
    tell_context(&model, args.max_context);
    let own = SamplingParams { logprobs: args.json.then_some(0), ..model.sampling().clone() };
    let params = args.sampling.params(&own)?;
    let mut chat = model.chat().with_sampling(params);
    if let Some(tokens) = args.thinking_budget {
        chat = chat.with_thinking_budget(tokens);
    }
    if let Some(variables) = &args.chat_template_kwargs {
        let variables = serde_json::from_str(variables);
        chat = chat.with_template_variables(variables.context("--chat-template-kwargs")?);
    }
    if !args.json {
        chat = chat.with_prefill_callback(prefill_bar());
    }
    chat.set_system(args.system.clone());
    if let Some(document) = &args.context {
        chat.set_context(Some(read(document).context("--context")?));
    }
    lightglm_examples::cancel_on_ctrl_c(chat.cancel_token())?;
    match &args.prompt {
        Some(prompt) => answer_once(&mut chat, prompt, args.json),
        None => converse(&mut chat, args.model.name()),
    }
}

fn answer_once(chat: &mut Chat, prompt: &str, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(&chat.ask(prompt)?.finish()?)?);
        return Ok(());
    }
    let reply = print_answer(chat, prompt)?;
    println!();
    eprintln!("{}", summary(&reply));
    Ok(())
}

/// Prints the answer as it comes.
fn print_answer(chat: &mut Chat, question: &str) -> Result<Reply> {
    let mut answer = chat.ask(question)?;
    for piece in answer.by_ref() {
        print!("{}", piece?);
        // A closed pipe ends the program at the next print.
        let _ = std::io::stdout().flush();
    }
    Ok(answer.finish()?)
}

const HELP: &str = "\
/help            this list
/clear           forget the conversation
/system TEXT     set the instructions (and forget the conversation)
/context FILE    answer from a text file; /context alone drops it
/retry           answer the last question again, with the next seed
/stats           tokens held, and their limit
/quit            leave (as does Ctrl-D)
Ctrl-C stops an answer.";

fn converse(chat: &mut Chat, name: &str) -> Result<()> {
    println!("{name} - /help lists the commands");
    let mut editor = rustyline::DefaultEditor::new()?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let line = line.trim();
        // History is a convenience; a terminal without it is no reason to stop.
        let _ = editor.add_history_entry(line);
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let question = match command {
            "/quit" | "/exit" => return Ok(()),
            "/retry" => {
                let Some(question) = chat.take_last_question() else {
                    println!("there is nothing to answer again");
                    continue;
                };
                chat.sampling_mut().seed += 1;
                question
            }
            _ if command.starts_with('/') => {
                obey(chat, command, rest.trim()).unwrap_or_else(|error| println!("{error:#}"));
                continue;
            }
            _ => line.to_string(),
        };
        match print_answer(chat, &question) {
            Ok(reply) => println!("\n\x1b[2m{}\x1b[0m", summary(&reply)),
            Err(error) => println!("{error:#}"),
        }
    }
}

fn obey(chat: &mut Chat, command: &str, rest: &str) -> Result<()> {
    match command {
        "/help" => println!("{HELP}"),
        "/clear" => chat.clear(),
        "/system" => chat.set_system((!rest.is_empty()).then(|| rest.to_string())),
        "/context" if rest.is_empty() => chat.set_context(None),
        "/context" => chat.set_context(Some(read(Path::new(rest))?)),
        "/stats" => println!("{} of {} tokens", chat.tokens_held(), chat.model().max_context()),
        other => bail!("{other} is not a command; /help lists them"),
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// A bar for prompts long enough to wait for.
fn prefill_bar() -> impl FnMut(lightglm::PrefillProgress) {
    let style = ProgressStyle::with_template("reading {bar:30} {pos}/{len} tokens, {eta} left");
    let style = style.expect("a valid template");
    let mut bar = ProgressBar::hidden();
    move |progress| {
        if progress.done == progress.total {
            bar.finish_and_clear();
            bar = ProgressBar::hidden();
        } else {
            if bar.is_hidden() {
                bar = ProgressBar::new(progress.total as u64).with_style(style.clone());
            }
            bar.set_position(progress.done as u64);
        }
    }
}

fn summary(reply: &Reply) -> String {
    let speed = &reply.speed;
    let decoded = reply.token_ids.len().saturating_sub(1);
    let cut = match reply.finish {
        Some(FinishReason::Length) => ", cut off at --max-tokens",
        Some(FinishReason::Cancelled) => ", stopped",
        _ => "",
    };
    format!(
        "{} tokens{cut}; prompt {} tokens at {:.0} tokens/s, answer at {:.1} tokens/s",
        reply.token_ids.len(),
        speed.prompt_tokens,
        speed.prompt_tokens as f64 / speed.prompt_seconds.max(1e-9),
        decoded as f64 / speed.decode_seconds.max(1e-9),
    )
}
