//! A conversation in the terminal, or one question with `--prompt`.
//!
//! `cargo run --release --example chat -- --prompt "My parcel has not arrived. What should I do?"`
//! answers and ends; without `--prompt` it is a conversation with history, and `/help` lists what
//! else it understands. `--context FILE` puts a document before the question. `--json` (with
//! `--prompt`) prints one object: prompt_token_ids, token_ids, logprobs, text.
//!
//! The whole conversation is rendered anew each turn by the model's own chat template; what the
//! cache holds already is not computed again. Text you type never becomes a control token.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm_core::SequenceId;
use lightglm_core::{KvDtype, KvShape};
use lightglm_examples::device::{Device, DeviceJob, run_on};
use lightglm_examples::precision::Precision;
use lightglm_examples::sampling::recommended;
use lightglm_examples::serving::{ServedModel, serve};
use lightglm_examples::{open_model, use_threads};
use lightglm_generation::{
    CancelToken, ContiguousKvCache, FinishReason, GenerationRequest, Generator, SamplingParams,
};
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GenerationConfig;
use lightglm_quant::{Policy, Scheme};
use lightglm_text::ChatText;
use lightglm_text::{Message, ModelText};
use rustyline::error::ReadlineError;
use serde::Serialize;

#[derive(Parser)]
struct Args {
    /// A folder, a .gguf file, or a hub id; the default model where left out.
    #[arg(long)]
    model: Option<String>,
    /// Answer this and end.
    #[arg(long)]
    prompt: Option<String>,
    /// Instructions that stand before the conversation.
    #[arg(long)]
    system: Option<String>,
    /// A text file to answer from.
    #[arg(long)]
    context: Option<PathBuf>,
    /// Longest answer, in tokens.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Longest conversation, in tokens.
    #[arg(long, default_value_t = 8192)]
    max_context: usize,
    /// Always the most likely token.
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "top_k", "min_p"])]
    greedy: bool,
    /// Sampling temperature; the checkpoint's own, or 0.2, where left out.
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep the most likely tokens that together have this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Keep this many of the most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep tokens at least this much as likely as the most likely one.
    #[arg(long)]
    min_p: Option<f32>,
    /// Above 1: repeat less.
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// The same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End the answer before this text (may be given several times).
    #[arg(long)]
    stop: Vec<String>,
    /// Hold the weights in this precision.
    #[arg(long, value_enum)]
    dtype: Option<Precision>,
    /// Quantize the weights while they are loaded: int8, int4, int8wo, ...
    #[arg(long, conflicts_with = "dtype")]
    scheme: Option<Scheme>,
    /// Threads; all the machine has where left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: Device,
    /// One JSON object instead of text (needs --prompt).
    #[arg(long, requires = "prompt")]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Reply {
    prompt_token_ids: Vec<u32>,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    text: String,
    #[serde(skip)]
    finish: Option<FinishReason>,
    #[serde(skip)]
    speed: Speed,
}

#[derive(Default)]
struct Speed {
    prompt_tokens: usize,
    prompt_seconds: f64,
    decode_seconds: f64,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    run_on(args.device, Chat { args })
}

struct Chat {
    args: Args,
}

impl DeviceJob for Chat {
    type Output = ();

    fn run<B: LmGradients>(self, device: B::Device) -> Result<()> {
        let args = self.args;
        let checkpoint = open_model(args.model.as_deref())?;
        let mut talk = Conversation::<B>::open(&checkpoint, &args, &device)?;
        if let Some(document) = &args.context {
            let text = std::fs::read_to_string(document)
                .with_context(|| format!("--context {}", document.display()))?;
            talk.context = Some(text);
        }
        match &args.prompt {
            Some(prompt) => answer_once(&mut talk, prompt, args.json),
            None => converse(&mut talk, &args),
        }
    }
}

fn answer_once<B: LmBackend>(talk: &mut Conversation<B>, prompt: &str, json: bool) -> Result<()> {
    let reply = talk.ask(prompt, &mut |piece| {
        if !json {
            print_now(piece);
        }
    })?;
    if json {
        println!("{}", serde_json::to_string(&reply)?);
    } else {
        println!();
        eprintln!("{}", reply.summary());
    }
    Ok(())
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

fn converse<B: LmBackend>(talk: &mut Conversation<B>, args: &Args) -> Result<()> {
    println!("{} - /help lists the commands", args.model.as_deref().unwrap_or("default model"));
    let mut editor = rustyline::DefaultEditor::new()?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // History is a convenience; a terminal without it is no reason to stop.
        let _ = editor.add_history_entry(line);
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let question = match command {
            "/quit" | "/exit" => return Ok(()),
            "/retry" => match talk.take_last_question() {
                Some(question) => question,
                None => {
                    println!("there is nothing to answer again");
                    continue;
                }
            },
            _ if command.starts_with('/') => {
                if let Err(error) = talk.command(command, rest.trim()) {
                    println!("{error:#}");
                }
                continue;
            }
            _ => line.to_string(),
        };
        match talk.ask(&question, &mut print_now) {
            Ok(reply) => println!("\n\x1b[2m{}\x1b[0m", reply.summary()),
            Err(error) => println!("{error:#}"),
        }
    }
}

fn print_now(piece: &str) {
    print!("{piece}");
    // A closed pipe ends the program at the next print.
    let _ = std::io::stdout().flush();
}

/// A model, its text side, and what was said so far.
struct Conversation<B: LmBackend> {
    model: Box<dyn ServedModel<B>>,
    text: ModelText,
    params: SamplingParams,
    cache: ContiguousKvCache<B>,
    /// Tokens whose keys and values the cache holds.
    held: Vec<u32>,
    system: Option<String>,
    context: Option<String>,
    history: Vec<Message>,
    cancel: CancelToken,
    max_context: usize,
    quiet: bool,
}

const SEQUENCE: SequenceId = SequenceId(0);

impl<B: LmBackend> Conversation<B> {
    fn open(checkpoint: &Checkpoint, args: &Args, device: &B::Device) -> Result<Self> {
        let config = checkpoint.config();
        let spinner = ProgressBar::new_spinner().with_message("loading the model");
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        let policy = args.scheme.map(Policy::uniform);
        let model = serve::<B>(checkpoint, policy.as_ref(), args.dtype, device)?.model;
        spinner.finish_and_clear();
        let max_context = args.max_context.min(config.max_position_embeddings);
        let cache =
            ContiguousKvCache::new(KvShape::of(config), 1, max_context, KvDtype::F32, device);
        let cancel = CancelToken::new();
        let on_interrupt = cancel.clone();
        ctrlc::set_handler(move || {
            // The second Ctrl-C in a row finds the token cancelled already: then leave.
            if on_interrupt.is_cancelled() {
                std::process::exit(130);
            }
            on_interrupt.cancel();
        })?;
        Ok(Self {
            model,
            text: checkpoint.text()?,
            params: sampling(args, &checkpoint.generation_config()?)?,
            cache,
            held: Vec::new(),
            system: args.system.clone(),
            context: None,
            history: Vec::new(),
            cancel,
            max_context,
            quiet: args.json,
        })
    }

    fn command(&mut self, command: &str, rest: &str) -> Result<()> {
        match command {
            "/help" => println!("{HELP}"),
            "/clear" => self.history.clear(),
            "/system" => {
                self.system = (!rest.is_empty()).then(|| rest.to_string());
                self.history.clear();
            }
            "/context" if rest.is_empty() => self.context = None,
            "/context" => {
                self.context =
                    Some(std::fs::read_to_string(rest).with_context(|| rest.to_string())?);
            }
            "/stats" => println!("{} of {} tokens", self.held.len(), self.max_context),
            other => bail!("{other} is not a command; /help lists them"),
        }
        Ok(())
    }

    /// Removes the last question and its answer, and moves on to the next seed.
    fn take_last_question(&mut self) -> Option<String> {
        let last = self.history.iter().rposition(|message| message.role == "user")?;
        let question = self.history.drain(last..).next()?;
        self.params.seed += 1;
        question.content?.as_str().map(String::from)
    }

    /// Answers `question`; both become part of the conversation.
    fn ask(&mut self, question: &str, print: &mut dyn FnMut(&str)) -> Result<Reply> {
        let mut messages = Vec::new();
        messages.extend(self.system.clone().map(Message::system));
        messages.extend(self.history.iter().cloned());
        messages.push(Message::user(match &self.context {
            Some(context) => format!("{context}\n\nAnswer from the text above. {question}"),
            None => question.to_string(),
        }));
        let prompt = self.text.encode_chat(&messages, &[])?;
        let reply = self.generate(prompt, print)?;
        self.history.push(Message::user(question.to_string()));
        self.history.push(Message::assistant(reply.text.clone()));
        Ok(reply)
    }

    fn generate(&mut self, prompt: Vec<u32>, print: &mut dyn FnMut(&str)) -> Result<Reply> {
        ensure!(
            prompt.len() < self.max_context,
            "the conversation has {} tokens and the limit is {} (--max-context; /clear forgets it)",
            prompt.len(),
            self.max_context
        );
        // Keep what the cache holds already, but run at least one token for its logits.
        let shared = self.held.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        let shared = shared.min(prompt.len() - 1);
        self.cache.truncate(SEQUENCE, shared)?;
        self.held.truncate(shared);
        self.cancel.reset();
        let request = GenerationRequest::new(
            SEQUENCE,
            prompt[shared..].to_vec(),
            self.params.clone(),
            self.text.eos_token_ids.clone(),
            self.text.tokenizer.decode_stream(true),
        )
        .with_history(prompt[..shared].to_vec())
        .with_cancel(self.cancel.clone());
        let bar = prefill_bar(prompt.len() - shared, self.quiet);
        let start = Instant::now();
        let mut reply = Reply {
            prompt_token_ids: prompt.clone(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            text: String::new(),
            finish: None,
            speed: Speed { prompt_tokens: prompt.len() - shared, ..Speed::default() },
        };
        let on_prefill = bar.clone();
        let generator = Generator::new(&*self.model, &mut self.cache, request)?
            .with_prefill_callback(move |progress| on_prefill.set_position(progress.done as u64));
        for step in generator {
            let step = step?;
            if reply.speed.prompt_seconds == 0.0 {
                bar.finish_and_clear();
                reply.speed.prompt_seconds = start.elapsed().as_secs_f64();
            }
            reply.token_ids.extend(step.token);
            reply.logprobs.extend(step.logprob);
            reply.text.push_str(&step.text);
            reply.finish = step.finish;
            print(&step.text);
        }
        reply.speed.decode_seconds = start.elapsed().as_secs_f64() - reply.speed.prompt_seconds;
        // The cache holds everything but the last token, which was chosen and not run.
        let held = lightglm_core::KvCache::<B>::sequence(&self.cache, SEQUENCE)?.1;
        self.held = prompt.into_iter().chain(reply.token_ids.iter().copied()).take(held).collect();
        Ok(reply)
    }
}

/// A bar for prompts long enough to wait for.
fn prefill_bar(tokens: usize, quiet: bool) -> ProgressBar {
    if quiet || tokens < 512 {
        return ProgressBar::hidden();
    }
    let style = "reading {bar:30} {pos}/{len} tokens, {eta} left";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::new(tokens as u64).with_style(style)
}

impl Reply {
    fn summary(&self) -> String {
        let speed = &self.speed;
        let decoded = self.token_ids.len().saturating_sub(1);
        let cut = match self.finish {
            Some(FinishReason::Length) => ", cut off at --max-tokens",
            Some(FinishReason::Cancelled) => ", stopped",
            _ => "",
        };
        format!(
            "{} tokens{cut}; prompt {} tokens at {:.0} tokens/s, answer at {:.1} tokens/s",
            self.token_ids.len(),
            speed.prompt_tokens,
            speed.prompt_tokens as f64 / speed.prompt_seconds.max(1e-9),
            decoded as f64 / speed.decode_seconds.max(1e-9),
        )
    }
}

/// The command line over the checkpoint's generation_config.json over our defaults.
fn sampling(args: &Args, config: &GenerationConfig) -> Result<SamplingParams> {
    let own = recommended(config);
    let base = SamplingParams {
        max_tokens: args.max_tokens,
        seed: args.seed,
        stop: args.stop.clone(),
        repetition_penalty: args.repetition_penalty.unwrap_or(own.repetition_penalty),
        logprobs: Some(0),
        ..SamplingParams::default()
    };
    let params = match args.greedy {
        true => base,
        false => SamplingParams {
            temperature: args.temperature.unwrap_or(own.temperature),
            top_p: args.top_p.unwrap_or(own.top_p),
            top_k: args.top_k.unwrap_or(own.top_k),
            min_p: args.min_p.unwrap_or(own.min_p),
            ..base
        },
    };
    params.validate()?;
    Ok(params)
}
