//! Steps that learn from other rows than planned.

use std::cell::RefCell;
use std::ops::ControlFlow;

use crate::bigrams::{Train, bits, config, corpus, example, losses, model, uninterrupted};
use lightglm_core::LmError;
use lightglm_testkit::BigramLm;
use lightglm_train::checkpoint::{CheckpointFolder, TrainCheckpointError};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::trainer::{RowsOfStep, TokenizedExample, TrainError, TrainEvent, Trainer};

type Bigrams = BigramLm<Train>;

/// Every second step has one row more, made of the model's first bits.
fn of_model(
    step: u64,
    model: &Bigrams,
    planned: &[&TokenizedExample],
) -> Result<Option<Vec<TokenizedExample>>, LmError> {
    if step.is_multiple_of(2) {
        return Ok(None);
    }
    let token = bits(model)[0] % 5;
    let mut rows: Vec<TokenizedExample> = planned.iter().map(|row| (*row).clone()).collect();
    rows.push(example(&[token, 1, token, 2], 99));
    Ok(Some(rows))
}

fn run(
    trainer: &Trainer<'_, Train>,
    seed: u64,
    rows: &RowsOfStep<'_, Bigrams>,
    last: u64,
) -> Result<(Bigrams, Vec<TrainEvent>), TrainError> {
    let (examples, mut events) = (corpus(), Vec::new());
    let mut watch = |event: &TrainEvent| {
        events.push(event.clone());
        match event {
            TrainEvent::Step(step) if step.step == last => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let (model, _) = trainer.run_on(model(seed), &examples, rows, &mut watch)?;
    Ok((model, events))
}

#[test]
fn other_rows_are_learnt_and_counted() {
    let (config, examples) = (config(), corpus());
    let plain = uninterrupted(&config, &examples);
    let trainer = Trainer::new(&config, &CrossEntropy);
    let asked = RefCell::new(Vec::new());
    let as_planned = |step, _: &Bigrams, planned: &[&TokenizedExample]| {
        asked.borrow_mut().push((step, planned.len()));
        Ok(None)
    };
    let (same, events) = run(&trainer, 1, &as_planned, u64::MAX).unwrap();
    assert_eq!((bits(&same), losses(&events)), (bits(&plain.model), plain.losses()));
    // Thirteen examples, three a step.
    let sizes = |step: u64| if step % 5 == 4 { 1 } else { 3 };
    assert_eq!(*asked.borrow(), (0..15).map(|step| (step, sizes(step))).collect::<Vec<_>>());

    let (other, events) = run(&trainer, 1, &of_model, u64::MAX).unwrap();
    assert_ne!(bits(&other), bits(&plain.model));
    let tokens = |events: &[TrainEvent]| {
        let step = |event: &TrainEvent| match event {
            TrainEvent::Step(step) => Some(step.tokens),
            _ => None,
        };
        events.iter().filter_map(step).collect::<Vec<_>>()
    };
    for (step, (other, plain)) in tokens(&events).iter().zip(tokens(&plain.events)).enumerate() {
        assert_eq!(*other, plain + if step % 2 == 1 { 4 } else { 0 });
    }
}

#[test]
fn such_a_run_is_resumed_to_the_bit_by_the_same_settings_alone() {
    let config = config();
    let new = |settings: &str| Trainer::new(&config, &CrossEntropy).with_settings(settings);
    let (whole, events) = run(&new("a"), 1, &of_model, u64::MAX).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(&parent.path().join("run"), 2).unwrap();
    let (_, begun) = run(&new("a").with_checkpoints(&folder, false), 1, &of_model, 4).unwrap();
    for other in ["", "b"] {
        let error =
            run(&new(other).with_checkpoints(&folder, true), 1, &of_model, 9).err().unwrap();
        let is_other =
            matches!(error, TrainError::Checkpoint(TrainCheckpointError::OtherRun { .. }));
        assert!(is_other, "{error}");
    }
    let (end, rest) =
        run(&new("a").with_checkpoints(&folder, true), 9, &of_model, u64::MAX).unwrap();
    assert_eq!(bits(&end), bits(&whole));
    assert_eq!([losses(&begun), losses(&rest)].concat(), losses(&events));
}

#[test]
fn rows_that_cannot_be_are_refused() {
    let config = config();
    let trainer = Trainer::new(&config, &CrossEntropy);
    let with = |row: TokenizedExample| {
        let rows = move |_, _: &Bigrams, _: &[&TokenizedExample]| Ok(Some(vec![row.clone()]));
        run(&trainer, 1, &rows, u64::MAX).err().unwrap()
    };
    let long = with(example(&[1; 21], 7));
    assert!(matches!(long, TrainError::TooLong { line: 7, tokens: 21, limit: 20 }), "{long}");
    let odd = with(TokenizedExample { tokens: vec![1], targets: vec![], line: 8 });
    assert!(matches!(odd, TrainError::Example { line: 8, .. }), "{odd}");
    let reason = "asked in vain".to_owned();
    let failing = |_, _: &Bigrams, _: &[&TokenizedExample]| {
        Err(LmError::Objective { reason: reason.clone() })
    };
    let error = run(&trainer, 1, &failing, u64::MAX).err().unwrap();
    assert!(matches!(error, TrainError::Model { step: 1, .. }), "{error}");
    // A step of nothing learns nothing.
    let nothing = |_, _: &Bigrams, _: &[&TokenizedExample]| Ok(Some(Vec::new()));
    let (_, events) = run(&trainer, 1, &nothing, 1).unwrap();
    assert_eq!(losses(&events), [(1, 0)]);
}
