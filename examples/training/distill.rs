//! A smaller student of a teacher, from end to end: cut, taught, quantized, compared.
//!
//! ```text
//! cargo run --release --example distill
//! cargo run --release --example distill -- --model DIR --share 0.5 --train TEXT --test TEXT --compare --output DIR
//! ```
//! The student is cut out of the teacher (`--share`, or `--layers`, `--ffn`, `--heads`, `--hidden`), or is there already
//! (`--student`). The teacher is asked once about every token of the rows; from the file of its answers the student is
//! taught, and then taught to bear its quantization (`--scheme`). The table at the end compares all of them on the test
//! rows, and with `--compare` a student of the same beginning that saw the same rows and no teacher. Files are those of
//! `finetune`: plain text, or rows of conversations, of which the answers count; the examples' own questions and answers
//! if omitted, which are too few for numbers to be quoted. `--banking` asks for intents, too.
//!
//! DIR gets `student/` (cut, untaught), `teacher.cache`, `distilled/`, `plain/` and `quantized/`, each with its model,
//! checkpoints, `metrics.jsonl` and `loss.svg`, and `distill.json`. Ctrl-C saves and ends; `--resume` continues in
//! whichever stage it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Parser;
use lightglm::checkpoint::{self, Checkpoint};
use lightglm::prune::{PruneOptions, Wanted, prune, shape_of};
use lightglm::quantize::{QuantizeOptions, quantize};
use lightglm::training::{
    DistillConfig, Method, QatConfig, TeacherCacheOptions, TokenizedExample, TrainingModel,
    cache_teacher_with, check_same_tokens,
};
use lightglm::{Error, Model, ProgressSink};
use lightglm_examples::progress_bar;
use lightglm_training_examples::distill::distill_args::DistillArgs;
use lightglm_training_examples::distill::measured::{Measured, Measures, load_options};
use lightglm_training_examples::distill::report::{Report, Taught};
use lightglm_training_examples::distill::stages::Stages;
use lightglm_training_examples::learnt_rows::learnt_rows;
use lightglm_training_examples::training_watch::{WatchedRun, peak_resident_bytes};
use serde_json::to_value;

#[derive(Parser)]
#[command(about = "Distil a smaller model from a teacher")]
struct Args {
    #[command(flatten)]
    distill: DistillArgs,
}

fn main() -> ExitCode {
    let args = Args::parse().distill;
    lightglm_examples::exit(run(&args).or_else(|error| match error.downcast_ref() {
        Some(Error::Interrupted { doing }) => {
            eprintln!("interrupted while {doing}; continue with --resume");
            Ok(())
        }
        _ => Err(error),
    }))
}

fn run(args: &DistillArgs) -> Result<()> {
    let shared = &args.training;
    let (threads, stop) = shared.begin()?;
    args.check()?; // Before anything is opened, asked or written.
    let progress = progress_bar::on_stderr_until(stop.clone());
    let teacher = checkpoint::open(args.teacher(), &progress)?;
    let text = teacher.text()?;
    let limits = args.row_limits(teacher.config().context_length());
    let (train, test) = learnt_rows(shared, &text, limits)?;
    let wanted = match args.student {
        Some(_) => Wanted::default(),
        None => args.wanted(&shape_of(teacher.config()))?,
    };
    let stages = Stages::open(&args.output, shared.resume, &args.settings(&wanted))?;

    let run = Run { args, stages, wanted, train: &train, progress, stop };
    let student = run.student(&teacher)?;
    let started = checkpoint::open(&student, &run.progress)?;
    check_same_tokens(&text, &started.text()?, teacher.config().vocab_size)?;
    drop(started);
    let cache = run.ask(teacher)?;
    let Some(distilled) = run.teach("distilled", &student, Method::Full, Some(&cache))? else {
        return Ok(());
    };
    let plain = match args.compare {
        true => match run.teach("plain", &student, Method::Full, None)? {
            None => return Ok(()),
            taught => taught,
        },
        false => None,
    };
    let Some(quantized) = run.quantize(&cache)? else { return Ok(()) };

    let labels =
        |rows: &[TokenizedExample]| rows.iter().map(TokenizedExample::labels).sum::<usize>();
    let report = Report {
        teacher: args.teacher().to_owned(),
        policy: args.policy().to_string(),
        seed: shared.seed,
        train_rows: train.len(),
        train_tokens: train.iter().map(|row| row.tokens.len()).sum(),
        train_labels: labels(&train),
        test_rows: test.len(),
        test_labels: labels(&test),
        cache_bytes: fs::metadata(&cache).with_context(|| cache.display().to_string())?.len(),
        distilled,
        plain,
        quantized,
        models: run.measure(&student, &test)?,
        peak_resident_bytes: peak_resident_bytes(),
        threads,
    };
    if !shared.report(&report, &run.stages.path("distill.json"))? {
        report.print(&args.output);
    }
    Ok(())
}

/// A run of the pipeline.
struct Run<'a> {
    args: &'a DistillArgs,
    stages: Stages,
    wanted: Wanted,
    train: &'a [TokenizedExample],
    progress: ProgressSink,
    stop: Arc<AtomicBool>,
}

impl Run<'_> {
    /// The folder of `--student`, or of what is left of the teacher.
    fn student(&self, teacher: &Checkpoint) -> Result<PathBuf> {
        if let Some(student) = &self.args.student {
            return Ok(student.clone());
        }
        let (folder, dense) = (self.stages.path("student"), self.stages.path("dense"));
        if !self.stages.is_done("student") {
            self.cut(teacher, &dense, &folder)?;
        }
        if dense.exists() {
            fs::remove_dir_all(&dense).with_context(|| dense.display().to_string())?;
        }
        Ok(folder)
    }

    /// Cuts the student out of the teacher, or where that is in blocks, which cannot be cut, of a dense copy.
    fn cut(&self, teacher: &Checkpoint, dense: &Path, folder: &Path) -> Result<()> {
        let args = self.args;
        let options = PruneOptions {
            wanted: self.wanted,
            calibration: args.calibration(self.train),
            context: args.context,
            overwrite: true, // An unfinished one.
            progress: self.progress.clone(),
            ..PruneOptions::default()
        };
        if !checkpoint::is_quantized(teacher) {
            prune(teacher, &options, folder)?;
            return Ok(());
        }
        if !self.stages.is_done("dense") {
            let training = args.training.options(args.context);
            TrainingModel::open_with(args.teacher(), Method::Full, training)?.save(dense)?;
        }
        prune(&checkpoint::open(dense, &self.progress)?, &options, folder)?;
        Ok(())
    }

    /// The file of what the teacher says of the rows.
    fn ask(&self, teacher: Checkpoint) -> Result<PathBuf> {
        let path = self.stages.path("teacher.cache");
        let (bytes_per_row, seed) = (self.args.bytes_per_row, self.args.training.seed);
        let options = TeacherCacheOptions { bytes_per_row, seed, ..Default::default() };
        let teacher = Model::from_checkpoint(teacher, load_options(&self.progress))?;
        cache_teacher_with(&teacher, self.train, &path, &options, &self.progress)?;
        Ok(path)
    }

    /// Teaches the model in `from` and saves it; `None` where the run was interrupted.
    fn teach(
        &self,
        stage: &str,
        from: &Path,
        method: Method,
        cache: Option<&Path>,
    ) -> Result<Option<Taught>> {
        let (stages, args) = (&self.stages, self.args);
        let (model, told) = (format!("{stage}/model"), format!("{stage}/taught.json"));
        if stages.is_done(&model) {
            return Ok(Some(stages.told(&told)?));
        }
        let config = args.teaching(&method)?;
        let options = args.training.options(args.context);
        let mut student = TrainingModel::open_with(from, method, options)?;
        if let Some(cache) = cache {
            let distil = DistillConfig { weight: args.kl_weight, ..DistillConfig::default() };
            student = student.with_cached_teacher(cache, distil)?;
        }
        let folder = stages.path(stage);
        eprintln!("{stage}:");
        let run = WatchedRun::open(&folder, true, format!("{stage}: {} rows", self.train.len()))?;
        let Some(trained) = run.train(&mut student, self.train, &[], &config, self.stop.clone())?
        else {
            return Ok(None);
        };
        let taught = Taught { outcome: to_value(trained.outcome)?, seconds: trained.seconds };
        stages.tell(&told, &taught)?;
        student.save(stages.path(&model))?;
        Ok(Some(taught))
    }

    /// Packs the distilled student, trained to bear it or only rounded; `None` where it was interrupted.
    fn quantize(&self, cache: &Path) -> Result<Option<Option<Taught>>> {
        let (from, policy) = (self.stages.path("distilled/model"), self.args.policy());
        if self.args.qat_epochs > 0 {
            let method = Method::Qat(QatConfig::new(policy));
            return Ok(self.teach("quantized", &from, method, Some(cache))?.map(Some));
        }
        if !self.stages.is_done("quantized/model") {
            let progress = self.progress.clone();
            let options = QuantizeOptions { overwrite: true, progress, ..policy.into() };
            let folder = self.stages.path("quantized/model");
            quantize(&checkpoint::open(&from, &self.progress)?, &options, &folder)?;
        }
        Ok(Some(None))
    }

    fn measure(&self, student: &Path, test: &[TokenizedExample]) -> Result<Vec<Measured>> {
        let (args, progress) = (self.args, &self.progress);
        let teacher = Model::open(args.teacher(), load_options(progress))?;
        let measures = Measures::new(args, &teacher, test, progress)?;
        let start = if args.student.is_some() { "student" } else { "pruned" };
        let mut models = vec![measures.of_teacher()?, measures.of(start, student)?];
        let plain = args.compare.then_some("plain");
        for stage in plain.into_iter().chain(["distilled", "quantized"]) {
            models.push(measures.of(stage, &self.stages.path(stage).join("model"))?);
        }
        Ok(models)
    }
}
