//! A small model that hears, from nothing: it learns spoken digits, and is a folder that `serve` and `transcribe` open.
//!
//! ```text
//! cargo run --release --example spoken_digits -- --data fsdd/recordings.tar.zst --output DIR
//! cargo run --release --example spoken_digits -- --data fsdd/recordings.tar.zst --output DIR --unseen all
//! ```
//! First what needs no training: the digit of the nearest recording. Then the model, an encoder and a decoder of 0.3 million
//! parameters, asked "Which digit?" about each recording of the test through the same door as any other model. The data: the Free
//! Spoken Digit Dataset (CC BY-SA 4.0). `--unseen NAME` keeps a speaker from the training, `all` each in turn.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{LoadOptions, Model, SamplingParams, user};
use lightglm_eval::metrics::Interval;
use lightglm_examples::{stop_on_ctrl_c, use_threads};
use lightglm_kernels::keep_freed_memory;
use lightglm_training_examples::digits::data::{self, Recording, Split, WORDS};
use lightglm_training_examples::digits::train::{Effort, QUESTION, train};
use lightglm_training_examples::digits::{floor, model};

#[derive(Parser)]
#[command(about = "Train a small model on spoken digits")]
struct Args {
    /// A folder of recordings (`7_jackson_32.wav`), or an archive of them (`.tar.zst`).
    #[arg(long)]
    data: PathBuf,
    /// The folder of the model; one that is there is replaced. With --unseen, a folder in it for each speaker.
    #[arg(long)]
    output: PathBuf,
    /// Keep this speaker's recordings from the training, and test on them; `all`: each in turn.
    #[arg(long, value_name = "NAME")]
    unseen: Option<String>,
    /// Steps of the encoder.
    #[arg(long, default_value_t = 3000)]
    steps: usize,
    /// And of the decoder.
    #[arg(long, default_value_t = 600)]
    decoder_steps: usize,
    /// Recordings of a step.
    #[arg(long, default_value_t = 24)]
    batch: usize,
    /// Only so many of the recordings: is the program alive?
    #[arg(long)]
    limit: Option<usize>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; all that the machine has if omitted.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    keep_freed_memory();
    let mut recordings = data::read(&args.data)?;
    if let Some(limit) = args.limit {
        let step = (recordings.len() / limit.max(1)).max(1);
        recordings = recordings.into_iter().step_by(step).collect();
    }
    let splits = match args.unseen.as_deref() {
        None => vec![Split::Official],
        Some("all") => data::speakers(&recordings).into_iter().map(Split::Speaker).collect(),
        Some(name) => vec![Split::Speaker(name.to_owned())],
    };
    let stop = stop_on_ctrl_c()?;
    let mut means = [0.0, 0.0];
    for split in &splits {
        let shares = one(&args, &recordings, split, &stop)?;
        means.iter_mut().zip(shares).for_each(|(mean, share)| *mean += share / splits.len() as f64);
    }
    if splits.len() > 1 {
        println!(
            "mean of {} speakers: nearest {:.3}, model {:.3}",
            splits.len(),
            means[0],
            means[1]
        );
    }
    Ok(())
}

/// The floor's share and the model's, on one split.
fn one(
    args: &Args,
    recordings: &[Recording],
    split: &Split,
    stop: &AtomicBool,
) -> Result<[f64; 2]> {
    let (test, train_on): (Vec<&Recording>, Vec<&Recording>) =
        recordings.iter().partition(|recording| split.is_test(recording));
    ensure!(!test.is_empty() && !train_on.is_empty(), "no recordings of {}", split.name());
    let (right, all) = floor::nearest(recordings, split);
    let nearest = right as f64 / all as f64;
    println!("{}: {} to learn from, {all} to test", split.name(), train_on.len());
    println!("  nearest recording: {}", share_of(right, all));
    let folder = match split {
        Split::Official => args.output.clone(),
        Split::Speaker(name) => args.output.join(name),
    };
    model::start(&folder, args.seed)?;
    let effort = Effort {
        encoder_steps: args.steps,
        decoder_steps: args.decoder_steps,
        batch: args.batch,
        seed: args.seed,
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}")?;
    let bar = ProgressBar::new(0).with_style(style);
    let began = std::time::Instant::now();
    train(&folder, &train_on, effort, &mut |stage, step, steps, loss| {
        bar.set_length(steps as u64);
        bar.set_position(step as u64);
        bar.set_message(format!("{stage}, loss {loss:.3}"));
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let heard = Model::open(&folder, LoadOptions::default())?;
    let right = test
        .iter()
        .map(|recording| Ok(is_right(&heard, recording)? as usize))
        .sum::<Result<usize>>()?;
    println!("  model: {}, learnt in {seconds:.0} s", share_of(right, all));
    Ok([nearest, right as f64 / all as f64])
}

/// A share with its 95 % interval.
fn share_of(right: usize, all: usize) -> String {
    let Interval { low, high, .. } = Interval::wilson(right, all);
    let share = right as f64 / all as f64;
    format!("{right} of {all}, {share:.3} ({:.3} to {:.3})", low / 100.0, high / 100.0)
}

/// Whether the model says the digit.
fn is_right(model: &Model, recording: &Recording) -> Result<bool> {
    let sampling = SamplingParams { temperature: 0.0, max_tokens: 8, ..model.sampling().clone() };
    let turn = user().medium(recording.sound.clone()).text(QUESTION);
    let reply = model.chat().with_sampling(sampling).say(turn)?.finish()?;
    Ok(reply.text.trim() == WORDS[recording.digit])
}
