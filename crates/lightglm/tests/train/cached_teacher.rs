//! A teacher that is asked once: what training from its file is, and what cannot be.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lightglm::training::{
    CheckpointFolder, Checkpoints, DistillConfig, DistillError, Divergence, Method, OnPolicy,
    RunOptions, TeacherCacheError, TeacherCacheOptions, TokenizedExample, TokenizedRows,
    TrainingModel, cache_teacher, cache_teacher_with, kl_divergence,
};
use lightglm::{Error, Model, ProgressSink};
use lightglm_model::config::GlmConfig;

use crate::checkpoint_folder::{rows, write_model, write_seeded};
use crate::distill::{Steps, open, settings, train};

/// Room for all of the small vocabulary's tokens in a row.
const ALL_TOKENS: usize = 2048;

/// A cached distribution's share of a loss is that of the live one within this, where all tokens are stored.
const TOLERANCE: f64 = 1e-3;

/// The same over a whole run with the default's 292 bytes: the tails are drawn.
const DRAWN_TOLERANCE: f64 = 5e-3;

/// A teacher and a student of other weights, and rows for both.
struct Pair {
    folder: tempfile::TempDir,
    teacher: Model,
    student: PathBuf,
    rows: TokenizedRows,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let teacher = open(&write_seeded(folder.path(), "teacher", GlmConfig::tiny(), 5));
        let student = write_model(folder.path(), false);
        let text = TrainingModel::open(&student, Method::Full).unwrap();
        let rows = text.tokenize(&rows(folder.path())).unwrap();
        Self { folder, teacher, student, rows }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, method: Method) -> TrainingModel {
        TrainingModel::open(&self.student, method).unwrap()
    }

    fn cached(&self, method: Method, cache: &Path) -> TrainingModel {
        self.open(method).with_cached_teacher(cache, DistillConfig::default()).unwrap()
    }
}

fn losses(steps: &Steps) -> Vec<f64> {
    steps.iter().map(|step| f64::from_bits(step.0)).collect()
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn a_cached_teacher_is_the_live_one() {
    let pair = Pair::new();
    let silent = ProgressSink::default();
    let mut live = pair
        .open(Method::Full)
        .with_teacher(pair.teacher.clone(), DistillConfig::default())
        .unwrap();
    let live_steps = losses(&train(&mut live, &pair.rows, RunOptions::default(), u64::MAX));

    let cache = pair.path("all");
    let all = TeacherCacheOptions { bytes_per_row: ALL_TOKENS, ..TeacherCacheOptions::default() };
    let written = cache_teacher_with(&pair.teacher, &pair.rows, &cache, &all, &silent).unwrap();
    assert_eq!(written.spans(), pair.rows.len() as u64);
    let mut cached = pair.cached(Method::Full, &cache);
    assert!(cached.teacher().unwrap().is_none());
    let steps = losses(&train(&mut cached, &pair.rows, RunOptions::default(), u64::MAX));
    for (at, (cached, live)) in steps.iter().zip(&live_steps).enumerate() {
        assert!((cached - live).abs() < TOLERANCE, "step {at}: {cached} instead of {live}");
    }
    // Both came as near to the teacher, as the models themselves say.
    let divergence = |student: &TrainingModel| {
        kl_divergence(&student.model().unwrap(), &pair.teacher, &pair.rows, &silent).unwrap()
    };
    let (of_cached, of_live) = (divergence(&cached), divergence(&live));
    assert!((of_cached - of_live).abs() < TOLERANCE, "{of_cached} instead of {of_live}");
    assert!(of_live < 0.9 * divergence(&pair.open(Method::Full)));
    assert!(kl_divergence(&pair.teacher, &pair.teacher, &pair.rows, &silent).unwrap() < 1e-6);

    // In fewer bytes than the tokens need.
    let cache = pair.path("drawn");
    cache_teacher(&pair.teacher, &pair.rows, &cache, &silent).unwrap();
    let mut drawn = pair.cached(Method::Full, &cache);
    let steps = losses(&train(&mut drawn, &pair.rows, RunOptions::default(), u64::MAX));
    let (drawn, live) = (mean(&steps), mean(&live_steps));
    assert!((drawn - live).abs() < DRAWN_TOLERANCE, "{drawn} instead of {live}");
    // A model that is about to be quantized learns from it, too.
    let mut rounded = pair.cached(Method::qat("w8a8").unwrap(), &pair.path("all"));
    let steps = losses(&train(&mut rounded, &pair.rows, RunOptions::default(), u64::MAX));
    assert!((steps[0] - live_steps[0]).abs() < 0.1 * live_steps[0], "{steps:?}");
}

#[test]
fn an_interrupted_filling_is_continued_to_the_byte() {
    let pair = Pair::new();
    let (whole, parts) = (pair.path("whole"), pair.path("parts"));
    let silent = ProgressSink::default();
    cache_teacher(&pair.teacher, &pair.rows, &whole, &silent).unwrap();
    for last in [9, 14] {
        let asked = AtomicU64::new(0);
        let stopping =
            ProgressSink::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) == last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
        let stopped = cache_teacher(&pair.teacher, &pair.rows, &parts, &stopping).unwrap_err();
        assert!(matches!(stopped, Error::Interrupted { .. }), "{stopped}");
        assert!(pair.path("parts.partial").exists() && !parts.exists());
        // An unfinished one teaches nobody.
        let student = pair.open(Method::Full);
        let error = student.with_cached_teacher(&parts, DistillConfig::default()).unwrap_err();
        assert!(matches!(error, Error::TeacherCache(TeacherCacheError::Io { .. })), "{error}");
    }
    cache_teacher(&pair.teacher, &pair.rows, &parts, &silent).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&parts).unwrap());
    // Nobody is asked about what is there.
    let none = ProgressSink::new(|_| ControlFlow::Break(()));
    cache_teacher(&pair.teacher, &pair.rows, &parts, &none).unwrap();
}

#[test]
fn a_run_from_a_cache_is_resumed_to_the_bit() {
    let pair = Pair::new();
    let (cache, silent) = (pair.path("cache"), ProgressSink::default());
    cache_teacher(&pair.teacher, &pair.rows, &cache, &silent).unwrap();
    let mut whole = pair.cached(Method::Full, &cache);
    let uninterrupted = train(&mut whole, &pair.rows, RunOptions::default(), u64::MAX);
    let checkpoints = CheckpointFolder::open(&pair.path("checkpoints"), 2).unwrap();
    let run = |resume| RunOptions {
        checkpoints: Some(Checkpoints { folder: &checkpoints, resume }),
        ..RunOptions::default()
    };
    let first = train(&mut pair.cached(Method::Full, &cache), &pair.rows, run(false), 7);
    // Another teacher's file: another run.
    let other = open(&write_seeded(pair.folder.path(), "other", GlmConfig::tiny(), 6));
    let others = pair.path("others");
    cache_teacher(&other, &pair.rows, &others, &silent).unwrap();
    let mut other = pair.cached(Method::Full, &others);
    let config = settings(&other);
    let refused = other.train_with(&pair.rows, &config, run(true), |_| ControlFlow::Continue(()));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(" cached "), "{refused}");
    let mut second = pair.cached(Method::Full, &cache);
    let rest = train(&mut second, &pair.rows, run(true), u64::MAX);
    assert_eq!([first, rest].concat(), uninterrupted);
    whole.save(pair.path("whole")).unwrap();
    second.save(pair.path("second")).unwrap();
    let weights = |name: &str| fs::read(pair.path(name).join("model.safetensors")).unwrap();
    assert!(weights("whole") == weights("second"));
}

#[test]
fn what_is_of_something_else_is_told() {
    let pair = Pair::new();
    let (cache, silent) = (pair.path("cache"), ProgressSink::default());
    cache_teacher(&pair.teacher, &pair.rows, &cache, &silent).unwrap();
    let other_field = |error: Error| match error {
        Error::TeacherCache(TeacherCacheError::Other { field, .. }) => field,
        error => panic!("{error}"),
    };
    let refill = |teacher: &Model, rows: &[TokenizedExample], options: &TeacherCacheOptions| {
        other_field(cache_teacher_with(teacher, rows, &cache, options, &silent).unwrap_err())
    };
    // Another teacher, by one weight; another text; other settings.
    let mine = TeacherCacheOptions::default();
    let other = open(&write_seeded(pair.folder.path(), "other", GlmConfig::tiny(), 6));
    assert_eq!(refill(&other, &pair.rows, &mine), "teacher");
    assert_eq!(refill(&pair.teacher, &pair.rows[1..], &mine), "text");
    let hot = TeacherCacheOptions { temperature: 2.0, ..mine.clone() };
    assert_eq!(refill(&pair.teacher, &pair.rows, &hot), "temperature");
    let vocab_size = GlmConfig::tiny().vocab_size;
    let wider = GlmConfig { vocab_size: vocab_size + 8, ..GlmConfig::tiny() };
    let wider = write_seeded(pair.folder.path(), "wider", wider, 5);
    assert_eq!(refill(&open(&wider), &pair.rows, &mine), "vocabulary");
    // The same files in another folder are the same teacher.
    let moved = pair.path("moved");
    fs::create_dir(&moved).unwrap();
    for file in fs::read_dir(pair.path("teacher")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), moved.join(file.file_name())).unwrap();
    }
    cache_teacher(&open(&moved), &pair.rows, &cache, &silent).unwrap();
    // A model in training has no file that it is known by.
    let trained = pair.open(Method::Full).model().unwrap();
    let error = cache_teacher(&trained, &pair.rows, pair.path("trained"), &silent).unwrap_err();
    assert!(matches!(error, Error::Option { option: "teacher", .. }), "{error}");

    let student = || pair.open(Method::Full);
    let wrong = |config: DistillConfig| student().with_cached_teacher(&cache, config).unwrap_err();
    let on_policy = Some(OnPolicy::default());
    let error = wrong(DistillConfig { on_policy, ..DistillConfig::default() });
    assert!(matches!(error, Error::Option { option: "on_policy", .. }), "{error}");
    let error = wrong(DistillConfig { temperature: 2.0, ..DistillConfig::default() });
    let wanted = DistillError::Temperature { teacher: 1.0, wanted: 2.0 };
    assert!(matches!(&error, Error::Distill(error) if *error == wanted), "{error}");
    let error = wrong(DistillConfig {
        divergence: Divergence::JensenShannon { beta: 2.0 },
        ..DistillConfig::default()
    });
    assert!(matches!(error, Error::Distill(DistillError::Setting { .. })), "{error}");
    let student = TrainingModel::open(&wider, Method::Full).unwrap();
    let error = student.with_cached_teacher(&cache, DistillConfig::default()).unwrap_err();
    let wanted = DistillError::Vocabulary { teacher: vocab_size, student: vocab_size + 8 };
    assert!(matches!(&error, Error::Distill(error) if *error == wanted), "{error}");
    // Rows that it was not asked about, before anything is trained.
    let mut student = pair.cached(Method::Full, &cache);
    let mut rows = pair.rows.rows.clone();
    rows[3].tokens[0] += 1;
    let config = settings(&student);
    let error = student.train(&rows, &config, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::TeacherCache(TeacherCacheError::UnknownSpan { .. })), "{error}");
    // A damaged file.
    let mut bytes = fs::read(&cache).unwrap();
    bytes[80] ^= 1;
    let damaged = pair.path("damaged");
    fs::write(&damaged, bytes).unwrap();
    let mut student = pair.cached(Method::Full, &damaged);
    let error = student.train(&pair.rows, &config, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::TeacherCache(TeacherCacheError::Damaged { .. })), "{error}");
}
