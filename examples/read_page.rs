//! The text of scanned pages, by a model that was made for it: GLM-OCR.
//!
//! ```text
//! cargo run --release --example read_page -- --model GLM-OCR page-1.png page-2.png
//! ```
//! Each page's text goes to stdout as it is read; `--out FOLDER` writes `page-1.txt` and so on instead, each when it is
//! complete, and passes over pages that are there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lightglm::{FinishReason, LoadOptions, Model, SamplingParams, user, write_whole};
use lightglm_examples::model_args::{MAX_CONTEXT, ModelArgs};

#[derive(Parser)]
#[command(about = "Read scanned pages")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told: GLM-OCR knows `Text Recognition:`, `Formula Recognition:`, `Table Recognition:`.
    #[arg(long, default_value = "Text Recognition:")]
    prompt: String,
    /// Tokens of a page at most.
    #[arg(long, default_value_t = 4096)]
    max_tokens: usize,
    /// Write a text file for each page to this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// PNG, JPEG or WebP files, a page each.
    #[arg(required = true)]
    pages: Vec<PathBuf>,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let max_context = Some(MAX_CONTEXT.max(2 * args.max_tokens));
    let model = args.model.open(LoadOptions { max_context, ..args.model.options() })?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pages {eta} {msg}")?;
    let bar = ProgressBar::new(args.pages.len() as u64).with_style(style);
    for page in &args.pages {
        let name = page.file_stem().unwrap_or(page.as_os_str()).to_string_lossy().into_owned();
        let out = args.out.as_ref().map(|folder| folder.join(format!("{name}.txt")));
        if out.as_deref().is_some_and(Path::exists) {
            bar.inc(1);
            continue;
        }
        bar.set_message(name);
        let text = read(&model, page, &args).with_context(|| page.display().to_string())?;
        match out {
            Some(file) => write_whole(&file, text.as_bytes())?,
            None => bar.suspend(|| writeln!(std::io::stdout(), "{text}"))?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn read(model: &Model, page: &Path, args: &Args) -> Result<String> {
    let bytes = std::fs::read(page)?;
    let sampling = SamplingParams {
        temperature: 0.0,
        max_tokens: args.max_tokens,
        ..model.sampling().clone()
    };
    let turn = user().image(&bytes).text(&args.prompt);
    let reply = model.chat().with_sampling(sampling).say(turn)?.finish()?;
    if reply.finish == Some(FinishReason::Length) {
        eprintln!("{}: cut off at {} tokens", page.display(), reply.token_ids.len());
    }
    Ok(reply.text)
}
