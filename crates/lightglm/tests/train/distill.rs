//! Students of a teacher: what they learn, from whose answers, and what cannot be.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::training::{
    CheckpointFolder, Checkpoints, DistillConfig, DistillError, Divergence, LoraConfig, Method,
    OnPolicy, RecordedTeacher, RunOptions, StopReason, TokenizedRows, TrainConfig, TrainEvent,
    TrainingModel,
};
use lightglm::{Error, KvDtype, LoadOptions, Model};
use lightglm_model::config::GlmConfig;

use crate::checkpoint_folder::{rows, write_model, write_seeded};

/// Tokens of an answer of the student's own.
const OWN_TOKENS: usize = 6;

fn teacher(folder: &Path, seed: u64) -> Model {
    let model = write_seeded(folder, &format!("teacher{seed}"), GlmConfig::tiny(), seed);
    open(&model)
}

pub(crate) fn open(folder: &Path) -> Model {
    Model::open(folder, LoadOptions { kv_dtype: KvDtype::F32, ..LoadOptions::default() }).unwrap()
}

fn own(fraction: f64) -> DistillConfig {
    let on_policy = Some(OnPolicy { fraction, max_tokens: OWN_TOKENS });
    DistillConfig { on_policy, ..DistillConfig::default() }
}

pub(crate) fn settings(student: &TrainingModel) -> TrainConfig {
    TrainConfig { epochs: 4, batch_size: 4, learning_rate: 3e-3, ..student.recommended() }
}

/// Losses, tokens and labels of the steps.
pub(crate) type Steps = Vec<(u64, usize, usize)>;

pub(crate) fn train(
    student: &mut TrainingModel,
    rows: &TokenizedRows,
    run: RunOptions<'_>,
    until: u64,
) -> Steps {
    let (config, mut steps) = (settings(student), Vec::new());
    let outcome = student.train_with(rows, &config, run, |event| match event {
        TrainEvent::Step(step) => {
            steps.push((step.loss.to_bits(), step.tokens, step.labels));
            if step.step == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    outcome.unwrap();
    steps
}

fn mean_loss(steps: &[(u64, usize, usize)]) -> f64 {
    steps.iter().map(|step| f64::from_bits(step.0)).sum::<f64>() / steps.len() as f64
}

#[test]
fn the_distance_from_the_teacher_falls() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let teacher = teacher(folder.path(), 5);
    let jensen_shannon = Divergence::JensenShannon { beta: 0.5 };
    for (method, config) in [
        (Method::Full, DistillConfig::default()),
        (Method::Full, DistillConfig { divergence: jensen_shannon, temperature: 2.0, ..own(1.0) }),
        (
            Method::Lora(LoraConfig::default()),
            DistillConfig { weight: 0.5, ..DistillConfig::default() },
        ),
        (Method::qat("w8a8").unwrap(), DistillConfig::default()),
    ] {
        let student = TrainingModel::open(&base, method.clone()).unwrap();
        let mut student = student.with_teacher(teacher.clone(), config).unwrap();
        assert!(student.teacher().unwrap().is_some());
        let rows = student.tokenize(&rows(folder.path())).unwrap();
        let steps = train(&mut student, &rows, RunOptions::default(), u64::MAX);
        let (begin, end) = (mean_loss(&steps[..5]), mean_loss(&steps[15..]));
        assert!(end < 0.9 * begin && end > 0.0, "{method:?}: {begin} {end}");
    }
}

/// The model itself, asked through a cache, has nothing to teach.
#[test]
fn a_model_teaches_itself_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let student = TrainingModel::open(&base, Method::Full).unwrap();
    let mut student = student.with_teacher(open(&base), DistillConfig::default()).unwrap();
    let rows = student.tokenize(&rows(folder.path())).unwrap();
    let steps = train(&mut student, &rows, RunOptions::default(), 1);
    assert!(f64::from_bits(steps[0].0).abs() < 1e-6, "{}", f64::from_bits(steps[0].0));
}

#[test]
fn answers_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let teacher = teacher(folder.path(), 5);
    let train = |config: DistillConfig| {
        let student = TrainingModel::open(&base, Method::Full).unwrap();
        let mut student = student.with_teacher(teacher.clone(), config).unwrap();
        let rows = student.tokenize(&rows(folder.path())).unwrap();
        let steps = train(&mut student, &rows, RunOptions::default(), u64::MAX);
        let saved = folder.path().join("saved");
        student.save(&saved).unwrap();
        (rows, steps, fs::read(saved.join("model.safetensors")).unwrap())
    };
    // None of them is plain distillation, to the bit.
    let (rows, plain, weights) = train(DistillConfig::default());
    let (_, none, same) = train(own(0.0));
    assert_eq!((&plain, &weights), (&none, &same));
    // All of them: exactly what was generated is learnt, behind the same questions.
    let (_, all, others) = train(own(1.0));
    assert_ne!(weights, others);
    let question = |row: &lightglm::training::TokenizedExample| {
        row.targets.iter().position(Option::is_some).unwrap() + 1
    };
    let questions: usize = rows.iter().map(question).sum();
    for epoch in all.chunks(5) {
        let of = |part: fn(&(u64, usize, usize)) -> usize| epoch.iter().map(part).sum::<usize>();
        assert_eq!(of(|step| step.1 - step.2), questions);
        assert!(epoch.iter().all(|step| step.2 >= 4 && step.2 <= 4 * OWN_TOKENS), "{epoch:?}");
    }
    assert!(all.iter().zip(&plain).all(|(own, plain)| own.0 != plain.0));
    // Some of them.
    let (_, half, _) = train(own(0.5));
    let as_planned = half.iter().zip(&plain).filter(|(half, plain)| half.2 == plain.2).count();
    assert!((1..20).contains(&as_planned), "{as_planned}");
}

#[test]
fn a_run_of_own_answers_is_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let teacher = teacher(folder.path(), 5);
    let lora = || Method::Lora(LoraConfig { rank: 4, dropout: 0.1, ..LoraConfig::default() });
    let open = |config: DistillConfig| {
        let student = TrainingModel::open(&base, lora()).unwrap();
        student.with_teacher(teacher.clone(), config).unwrap()
    };
    let mut whole = open(own(0.5));
    let rows = whole.tokenize(&rows(folder.path())).unwrap();
    let uninterrupted = train(&mut whole, &rows, RunOptions::default(), u64::MAX);
    let checkpoints = CheckpointFolder::open(&folder.path().join("checkpoints"), 2).unwrap();
    let run = |resume| RunOptions {
        checkpoints: Some(Checkpoints { folder: &checkpoints, resume }),
        ..RunOptions::default()
    };
    let first = train(&mut open(own(0.5)), &rows, run(false), 7);
    // Another share, another divergence: another run.
    let reverse = DistillConfig { divergence: Divergence::ReverseKl, ..own(0.5) };
    for other in [own(0.25), own(0.0), reverse] {
        let mut other = open(other);
        let config = settings(&other);
        let error = other.train_with(&rows, &config, run(true), |_| ControlFlow::Continue(()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("on-policy 0.5 of 6"), "{error}");
    }
    let mut second = open(own(0.5));
    let rest = train(&mut second, &rows, run(true), u64::MAX);
    assert_eq!([first, rest].concat(), uninterrupted);
    for (name, student) in [("whole", &whole), ("second", &second)] {
        student.save_adapter(folder.path().join(name)).unwrap();
    }
    let file = |name: &str| fs::read(folder.path().join(name).join("adapter_model.safetensors"));
    assert_eq!(file("whole").unwrap(), file("second").unwrap());
    // A finished run has nothing left to do.
    let config = settings(&second);
    let outcome =
        open(own(0.5)).train_with(&rows, &config, run(true), |_| ControlFlow::Continue(()));
    assert_eq!(outcome.unwrap().reason, StopReason::Finished);
}

#[test]
fn what_cannot_be_is_told_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let student = || TrainingModel::open(&base, Method::Full).unwrap();
    let vocab_size = GlmConfig::tiny().vocab_size;
    let wider = GlmConfig { vocab_size: vocab_size + 8, ..GlmConfig::tiny() };
    let wider = open(&write_seeded(folder.path(), "wider", wider, 3));
    let error = student().with_teacher(wider, DistillConfig::default()).unwrap_err();
    let wanted = DistillError::Vocabulary { teacher: vocab_size + 8, student: vocab_size };
    assert!(matches!(&error, Error::Distill(error) if *error == wanted), "{error}");

    // As many tokens, but others.
    let odd = write_seeded(folder.path(), "odd", GlmConfig::tiny(), 3);
    let tokenizer = fs::read_to_string(odd.join("tokenizer.json")).unwrap();
    let renamed = tokenizer.replace("<|observation|>", "<|observes|>");
    fs::write(odd.join("tokenizer.json"), renamed).unwrap();
    let error = student().with_teacher(open(&odd), DistillConfig::default()).unwrap_err();
    assert!(matches!(error, Error::TeacherVocabulary { token: 311, .. }), "{error}");

    let teacher = open(&base);
    let refused =
        |config: DistillConfig| student().with_teacher(teacher.clone(), config).unwrap_err();
    for fraction in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(refused(own(fraction)), Error::Option { option: "fraction", .. }));
    }
    let own_and_words = DistillConfig { weight: 0.5, ..own(0.5) };
    assert!(matches!(refused(own_and_words), Error::Option { option: "weight", .. }));
    let none = OnPolicy { max_tokens: 0, ..OnPolicy::default() };
    let none = DistillConfig { on_policy: Some(none), ..DistillConfig::default() };
    assert!(matches!(refused(none), Error::Option { option: "max_tokens", .. }));
    let cold = DistillConfig { temperature: 0.0, ..DistillConfig::default() };
    assert!(matches!(refused(cold), Error::Distill(DistillError::Setting { .. })));

    // A recorded teacher knows its rows alone.
    let recorded = || RecordedTeacher::new(vocab_size);
    let error = student().with_recorded_teacher(recorded(), own(0.5)).unwrap_err();
    assert!(matches!(error, Error::Option { option: "on_policy", .. }), "{error}");
    let mut taught = student().with_recorded_teacher(recorded(), DistillConfig::default()).unwrap();
    let rows = taught.tokenize(&rows(folder.path())).unwrap();
    let config = settings(&taught);
    let error = taught.train(&rows, &config, |_| ControlFlow::Continue(())).unwrap_err();
    let unknown = DistillError::Unrecorded { row: 0 };
    assert!(matches!(&error, Error::Distill(error) if *error == unknown), "{error}");
}
