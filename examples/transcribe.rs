//! What is said in recordings, by a model that hears: GLM-ASR.
//!
//! ```text
//! cargo run --release --example transcribe -- --model GLM-ASR-Nano-2512 call.mp3
//! cargo run --release --example transcribe -- --model GLM-ASR-Nano-2512 --srt lecture.flac > lecture.srt
//! ```
//! A long recording is heard in pieces of at most 30 s, cut where it is quiet; each is printed when it is there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{LoadOptions, MediaLimits, Pcm, TRANSCRIPTION_PROMPT};
use lightglm_examples::model_args::{MAX_CONTEXT, ModelArgs};

#[derive(Parser)]
#[command(about = "Write down what is said")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told.
    #[arg(long, default_value = TRANSCRIPTION_PROMPT)]
    prompt: String,
    /// Subtitles (SRT) instead of lines.
    #[arg(long)]
    srt: bool,
    /// A WAV, FLAC, MP3 or Ogg Vorbis file.
    recording: PathBuf,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let named = || args.recording.display().to_string();
    let bytes = std::fs::read(&args.recording).with_context(named)?;
    let recording = Pcm::decode(&bytes, &MediaLimits::default()).with_context(named)?;
    let max_context = Some(MAX_CONTEXT);
    let model = args.model.open(LoadOptions { max_context, ..args.model.options() })?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} s {eta}")?;
    let bar = ProgressBar::new(recording.seconds().ceil() as u64).with_style(style);
    let (mut number, mut failed) = (0, None);
    model.transcribe_with(&recording, &args.prompt, &mut |segment| {
        number += 1;
        let line = if args.srt { segment.srt(number) } else { format!("{}\n", segment.text) };
        let printed = bar.suspend(|| std::io::stdout().write_all(line.as_bytes()));
        failed = failed.take().or(printed.err());
        bar.set_position(segment.end as u64);
    })?;
    bar.finish_and_clear();
    failed.map_or(Ok(()), |error| Err(error.into()))
}
