//! The loop on a model of one matrix: what it learns, when it stops, what it refuses.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::bigrams::{Train, VOCAB, bits, config, corpus, example, model, run, uninterrupted};
use burn::module::{Module, Param};
use burn::tensor::DType;
use lightglm_core::{LmError, TrainableLm};
use lightglm_testkit::BigramLm;
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::{AdamWConfig, ScheduleShape};
use lightglm_train::trainer::{
    StopReason, TokenizedExample, TrainConfig, TrainError, TrainEvent, Trainer,
};

/// Mean of `-log p(next | token)` under the corpus' own frequencies: no table has less.
fn entropy(examples: &[TokenizedExample]) -> f64 {
    let mut pairs = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    for pair in examples.iter().flat_map(|e| e.tokens.windows(2)) {
        *pairs.entry((pair[0], pair[1])).or_insert(0.0) += 1.0;
        *firsts.entry(pair[0]).or_insert(0.0) += 1.0;
    }
    let all: f64 = pairs.values().sum();
    let nats = pairs.iter().map(|(pair, count): (&(u32, u32), &f64)| {
        let share = count / firsts[&pair.0];
        -count * f64::ln(share)
    });
    nats.sum::<f64>() / all
}

#[test]
fn the_loss_falls_to_the_entropy() {
    let examples = corpus();
    let config = TrainConfig {
        batch_size: examples.len(),
        epochs: 600,
        learning_rate: 0.2,
        optimizer: AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() },
        max_grad_norm: None,
        micro_batch_tokens: 1000,
        ..config()
    };
    let ran = uninterrupted(&config, &examples);
    let losses: Vec<f64> = ran.losses().iter().map(|(_, loss)| f64::from_bits(*loss)).collect();
    let least = entropy(&examples);
    assert_eq!((ran.outcome.reason, ran.outcome.step), (StopReason::Finished, 600));
    assert!((losses[0] - (VOCAB as f64).ln()).abs() < 0.1, "nearly uniform at first");
    assert!(losses.iter().all(|loss| *loss > least - 1e-5), "nothing is below {least}");
    // A pair that never occurs keeps its row from getting there altogether.
    let last = losses[losses.len() - 1];
    assert!(last - least < 2e-3, "{last}, the entropy is {least}");
    let tokens: usize = examples.iter().map(|e| e.tokens.len()).sum();
    assert_eq!(ran.outcome.tokens, 600 * tokens as u64);
}

#[test]
fn passes_add_up() {
    let examples = corpus();
    let whole = uninterrupted(&TrainConfig { micro_batch_tokens: 10_000, ..config() }, &examples);
    for micro_batch_tokens in [18, 25, 40] {
        let cut = uninterrupted(&TrainConfig { micro_batch_tokens, ..config() }, &examples);
        for ((step, a), (_, b)) in cut.losses().into_iter().zip(whole.losses()) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            // f32 sums in another order, and what they make of the steps before.
            assert!((a - b).abs() < 2e-5, "step {step}: {a} in passes, {b} at once");
        }
    }
}

#[test]
fn every_example_is_seen_once_an_epoch() {
    let examples = corpus();
    let ran = uninterrupted(&config(), &examples);
    let labels = |epoch: usize| -> usize {
        let steps = ran.events.iter().filter_map(|event| match event {
            TrainEvent::Step(step) => Some(step.labels),
            _ => None,
        });
        steps.skip(5 * epoch).take(5).sum()
    };
    let all: usize = examples.iter().map(TokenizedExample::labels).sum();
    assert_eq!([labels(0), labels(1), labels(2)], [all; 3]);
    assert_eq!(ran.losses(), uninterrupted(&config(), &examples).losses(), "the seed decides");
    let other = uninterrupted(&TrainConfig { seed: 12, ..config() }, &examples);
    assert_ne!(ran.losses(), other.losses());
}

/// In what is learnt 1 always follows 0; in what is scored three times of four. So the score is best
/// somewhere on the way.
fn overfitting() -> (Vec<TokenizedExample>, Vec<TokenizedExample>, TrainConfig) {
    let train = vec![example(&[0, 1, 0, 1, 0, 1], 1); 4];
    let mut validation = vec![example(&[0, 1], 1); 3];
    validation.push(example(&[0, 2], 2));
    let config = TrainConfig {
        batch_size: 4,
        epochs: 400,
        learning_rate: 0.1,
        schedule: ScheduleShape::Constant,
        evaluate_every: Some(2),
        patience: Some(3),
        ..config()
    };
    (train, validation, config)
}

fn score(model: &BigramLm<Train>, examples: &[TokenizedExample]) -> f64 {
    let spans: Vec<_> =
        examples.iter().map(|e| lightglm_core::LabelledSpan::text(&e.tokens, &e.targets)).collect();
    let labels: usize = examples.iter().map(TokenizedExample::labels).sum();
    model.evaluate(&spans, &CrossEntropy).unwrap() / labels as f64
}

#[test]
fn early_stopping_returns_the_best_parameters() {
    let (train, validation, config) = overfitting();
    let trainer = Trainer::new(&config, &CrossEntropy).with_validation(&validation);
    let in_memory = run(&trainer, model(1), &train, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(folder.path(), 1).unwrap();
    let trainer = trainer.with_checkpoints(&folder, false);
    let on_disk = run(&trainer, model(1), &train, None).unwrap();
    for ran in [&in_memory, &on_disk] {
        assert_eq!(ran.outcome.reason, StopReason::Stopped);
        let (best, step) = ran.outcome.best.unwrap();
        assert_eq!(ran.outcome.step, step + 6, "three validations, two steps apart");
        assert_eq!(score(&ran.model, &validation).to_bits(), best.to_bits());
        let scores: Vec<(u64, f64, bool)> = ran
            .events
            .iter()
            .filter_map(|event| match event {
                TrainEvent::Validation { step, loss, best } => Some((*step, *loss, *best)),
                _ => None,
            })
            .collect();
        assert!(scores.iter().all(|(_, loss, _)| *loss >= best));
        let last_best = scores.iter().rfind(|(_, _, is_best)| *is_best).unwrap();
        assert_eq!((last_best.0, last_best.1), (step, best));
    }
    assert_eq!(bits(&in_memory.model), bits(&on_disk.model));
    assert_eq!(in_memory.losses(), on_disk.losses());

    // Resumed, it stays stopped.
    let trainer = Trainer::new(&config, &CrossEntropy).with_validation(&validation);
    let trainer = trainer.with_checkpoints(&folder, true);
    let again = run(&trainer, model(2), &train, None).unwrap();
    assert_eq!(again.outcome, on_disk.outcome);
    assert_eq!(again.losses(), []);
    assert_eq!(bits(&again.model), bits(&on_disk.model));
}

#[test]
fn a_score_that_is_no_number_is_not_the_best() {
    // The table has a row that is not a number, which only validation meets.
    let (train, validation, config) = overfitting();
    let odd = [example(&[4, 1], 1)];
    let mut values = model(1).table.val().inner().into_data().to_vec::<f32>().unwrap();
    values[4 * VOCAB] = f32::NAN;
    let data = burn::tensor::TensorData::new(values, [VOCAB, VOCAB]);
    let table = burn::tensor::Tensor::from_data(data, &burn_flex::FlexDevice);
    let sick = BigramLm::<Train> { table: Param::from_tensor(table) };
    let trainer = Trainer::new(&config, &CrossEntropy).with_validation(&odd);
    let ran = run(&trainer, sick, &train, None).unwrap();
    assert_eq!((ran.outcome.reason, ran.outcome.best), (StopReason::Stopped, None));
    assert_eq!(ran.outcome.step, 6);
    // Without patience nothing stops.
    let config = TrainConfig { patience: None, epochs: 20, ..config };
    let trainer = Trainer::new(&config, &CrossEntropy).with_validation(&validation);
    let ran = run(&trainer, model(1), &train, None).unwrap();
    assert_eq!((ran.outcome.reason, ran.outcome.step), (StopReason::Finished, 20));
}

#[test]
fn impossible_settings_are_named() {
    let with = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = config();
        change(&mut config);
        config
    };
    let nan = f64::NAN;
    let cases: [(&str, TrainConfig); 27] = [
        ("batch_size", with(&|c| c.batch_size = 0)),
        ("epochs", with(&|c| c.epochs = 0)),
        ("micro_batch_tokens", with(&|c| c.micro_batch_tokens = 0)),
        ("evaluate_every", with(&|c| c.evaluate_every = Some(0))),
        ("checkpoint_every", with(&|c| c.checkpoint_every = Some(0))),
        ("patience", with(&|c| c.patience = Some(0))),
        ("learning_rate", with(&|c| c.learning_rate = 0.0)),
        ("learning_rate", with(&|c| c.learning_rate = -1e-3)),
        ("learning_rate", with(&|c| c.learning_rate = nan)),
        ("learning_rate", with(&|c| c.learning_rate = f64::INFINITY)),
        ("warmup_ratio", with(&|c| c.warmup_ratio = -0.1)),
        ("warmup_ratio", with(&|c| c.warmup_ratio = 1.0)),
        ("warmup_ratio", with(&|c| c.warmup_ratio = nan)),
        ("max_grad_norm", with(&|c| c.max_grad_norm = Some(0.0))),
        ("max_grad_norm", with(&|c| c.max_grad_norm = Some(f64::INFINITY))),
        ("max_grad_norm", with(&|c| c.max_grad_norm = Some(nan))),
        ("beta1", with(&|c| c.optimizer.beta1 = 1.0)),
        ("beta1", with(&|c| c.optimizer.beta1 = -0.1)),
        ("beta2", with(&|c| c.optimizer.beta2 = 1.5)),
        ("beta2", with(&|c| c.optimizer.beta2 = nan)),
        ("eps", with(&|c| c.optimizer.eps = 0.0)),
        ("eps", with(&|c| c.optimizer.eps = f64::INFINITY)),
        ("eps", with(&|c| c.optimizer.eps = nan)),
        ("weight_decay", with(&|c| c.optimizer.weight_decay = -1.0)),
        ("weight_decay", with(&|c| c.optimizer.weight_decay = nan)),
        ("weight_decay", with(&|c| c.optimizer.weight_decay = f64::INFINITY)),
        ("weight_decay", with(&|c| c.optimizer.weight_decay = f64::NEG_INFINITY)),
    ];
    for (field, config) in cases {
        let error = config.check().expect_err(field);
        assert_eq!(error.field, field);
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        let trainer = Trainer::new(&config, &CrossEntropy);
        let error = refused(&trainer, model(1), &corpus());
        assert!(matches!(error, TrainError::Config(error) if error.field == field));
    }
    assert_eq!(config().check(), Ok(()));
}

fn refused(
    trainer: &Trainer<'_, Train>,
    model: BigramLm<Train>,
    examples: &[TokenizedExample],
) -> TrainError {
    let mut watch = |event: &TrainEvent| match event {
        TrainEvent::Begin { .. } => ControlFlow::Continue(()),
        _ => panic!("{event:?} before it was refused"),
    };
    trainer.run(model, examples, &mut watch).map(|_| ()).expect_err("it cannot be trained")
}

#[test]
fn what_cannot_be_learnt_is_named() {
    let config = config();
    let trainer = Trainer::new(&config, &CrossEntropy);
    let nothing = TokenizedExample::new(vec![1, 2, 3], &[true, false, false], 1);
    assert!(matches!(refused(&trainer, model(1), &[]), TrainError::NoExamples));
    let examples = [nothing.clone(), nothing];
    assert!(matches!(refused(&trainer, model(1), &examples), TrainError::NoExamples));

    let mut examples = corpus();
    examples[4] = example(&[1; 21], 77);
    let error = refused(&trainer, model(1), &examples);
    let TrainError::TooLong { line: 77, tokens: 21, limit: 20 } = error else { panic!("{error}") };
    // Among those of validation as well.
    let validation = [example(&[1; 30], 78)];
    let scored = Trainer::new(&config, &CrossEntropy).with_validation(&validation);
    let error = refused(&scored, model(1), &corpus());
    let TrainError::TooLong { line: 78, tokens: 30, limit: 20 } = error else { panic!("{error}") };

    examples[4] = TokenizedExample { tokens: vec![1, 2], targets: vec![Some(2)], line: 79 };
    let error = refused(&trainer, model(1), &examples);
    let TrainError::Example { line: 79, tokens: 2, targets: 1 } = error else { panic!("{error}") };
    examples[4] = TokenizedExample { tokens: vec![], targets: vec![], line: 80 };
    let error = refused(&trainer, model(1), &examples);
    let TrainError::Example { line: 80, tokens: 0, targets: 0 } = error else { panic!("{error}") };

    let examples = [example(&[1, 2], 5), example(&[1, VOCAB as u32], 6)];
    let error = refused(&trainer, model(1), &examples);
    let TrainError::Model { step: 1, mut lines, source } = error else { panic!("{error}") };
    lines.sort_unstable();
    assert_eq!(lines, [5, 6]);
    assert!(matches!(source, LmError::TokenOutOfRange { token: 5, vocab_size: 5 }));

    let error = refused(&trainer, model(1).no_grad(), &corpus());
    assert!(matches!(error, TrainError::NoParameters));
    let rounded = model(1).table.val().inner().cast(DType::BF16);
    let table = Param::from_tensor(burn::tensor::Tensor::<Train, 2>::from_inner(rounded));
    let error = refused(&trainer, BigramLm { table }, &corpus());
    let message = error.to_string();
    assert!(matches!(error, TrainError::Precision { name, .. } if name == "table"));
    assert!(message.contains("`table` is BF16"), "{message}");
}

#[test]
fn sizes_past_all_bounds() {
    let examples = corpus();
    let config = TrainConfig { epochs: usize::MAX, ..config() };
    let ran = run(&Trainer::new(&config, &CrossEntropy), model(1), &examples, Some(7)).unwrap();
    assert_eq!((ran.outcome.reason, ran.outcome.step), (StopReason::Interrupted, 7));
    let config = TrainConfig { batch_size: usize::MAX, epochs: 2, ..config };
    let config = TrainConfig { micro_batch_tokens: usize::MAX, ..config };
    let ran = uninterrupted(&config, &examples);
    assert_eq!((ran.outcome.reason, ran.outcome.step), (StopReason::Finished, 2));
}
