//! Runs that are interrupted and go on, and what is wrong with checkpoints that are not whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bigrams::{Train, VOCAB, bits, config, corpus, model, run, uninterrupted};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexDevice;
use lightglm_core::{LabelledSpan, LmError, Objective, SafetensorsWriter, StoredDtype, TensorSpec};
use lightglm_testkit::BigramLm;
use lightglm_train::checkpoint::{CheckpointFolder, TrainCheckpointError};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::AdamWConfig;
use lightglm_train::trainer::{StopReason, TrainConfig, TrainError, TrainEvent, Trainer};

#[test]
fn a_run_goes_on_as_if_nothing_had_been() {
    let examples = corpus();
    let config = TrainConfig {
        evaluate_every: Some(4),
        checkpoint_every: Some(1000),
        patience: Some(50),
        ..config()
    };
    let new = || Trainer::new(&config, &CrossEntropy).with_validation(&examples[..2]);
    let whole = run(&new(), model(1), &examples, None).unwrap();
    assert_eq!(whole.outcome.step, 15);
    for first in 1..15 {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("made/where/it/is/not");
        let folder = CheckpointFolder::open(&path, 2).unwrap();
        let begun = new().with_checkpoints(&folder, false);
        let begun = run(&begun, model(1), &examples, Some(first)).unwrap();
        assert_eq!(begun.outcome.reason, StopReason::Interrupted);
        // Another process: other parameters, another handle. Interrupted once more.
        let folder = CheckpointFolder::open(&path, 2).unwrap();
        let resumed = new().with_checkpoints(&folder, true);
        let middle = run(&resumed, model(9), &examples, Some(first + 1)).unwrap();
        let end = run(&resumed, model(8), &examples, None).unwrap();
        let losses = [begun.losses(), middle.losses(), end.losses()].concat();
        assert_eq!(losses, whole.losses(), "interrupted behind step {first}");
        assert_eq!(bits(&end.model), bits(&whole.model));
        let finished = match first {
            // The last step is never an interruption.
            14 => StopReason::Finished,
            _ => StopReason::Interrupted,
        };
        assert_eq!(middle.outcome.reason, finished);
        assert_eq!(end.outcome, whole.outcome);
    }
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let (examples, config) = (corpus(), config());
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(parent.path(), 9).unwrap();
    let trainer = Trainer::new(&config, &CrossEntropy);
    let first = run(&trainer.with_checkpoints(&folder, true), model(1), &examples, None).unwrap();
    let steps: Vec<u64> = folder.steps().unwrap();
    assert_eq!(steps, [5, 10, 15], "one at the end of each epoch");
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, true);
    let second = run(&trainer, model(2), &examples, None).unwrap();
    assert_eq!(second.losses(), []);
    assert_eq!(second.outcome, first.outcome);
    assert_eq!(bits(&second.model), bits(&first.model));
}

#[test]
fn old_checkpoints_go_and_leftovers_too() {
    let (examples, config) = (corpus(), TrainConfig { checkpoint_every: Some(1), ..config() });
    let parent = tempfile::tempdir().unwrap();
    let left = parent.path().join(".step-00000009-abc");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("parameters.safetensors"), "half").unwrap();
    fs::write(parent.path().join(".xyz.partial"), "half").unwrap();
    // What is not ours stays, and is not taken for a checkpoint.
    for name in ["notes.txt", "step-x", "step-7", "step-+0000007"] {
        fs::write(parent.path().join(name), "mine").unwrap();
    }
    for (keep, expected) in [(2, vec![14, 15]), (0, vec![15])] {
        let folder = CheckpointFolder::open(parent.path(), keep).unwrap();
        assert!(!left.exists());
        assert_eq!(folder.steps().unwrap(), [0u64; 0]);
        let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
        let ran = run(&trainer, model(1), &examples, None).unwrap();
        let saved = ran.events.iter().filter(|e| matches!(e, TrainEvent::Saved { .. })).count();
        assert_eq!(saved, 15);
        assert_eq!(folder.steps().unwrap(), expected);
        let names: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
        assert_eq!(names.len(), 4 + expected.len());
        expected.iter().for_each(|step| fs::remove_dir_all(folder.of_step(*step)).unwrap());
    }
}

#[test]
fn other_runs_are_refused() {
    let (examples, config) = (corpus(), config());
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(parent.path(), 1).unwrap();
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
    run(&trainer, model(1), &examples, Some(3)).unwrap();
    let error = run(&trainer, model(1), &examples, None).map(|_| ()).unwrap_err();
    let TrainError::Checkpoint(TrainCheckpointError::InUse { step: 3, folder: named }) = error
    else {
        panic!("{error}")
    };
    assert_eq!(named, parent.path());
    let changes: [fn(&mut TrainConfig); 9] = [
        |c| c.batch_size = 4,
        |c| c.epochs = 4,
        |c| c.learning_rate = 0.06,
        |c| c.warmup_ratio = 0.5,
        |c| c.optimizer.beta2 = 0.99,
        |c| c.max_grad_norm = None,
        |c| c.micro_batch_tokens = 30,
        |c| c.seed = 12,
        |c| c.patience = Some(3),
    ];
    for change in changes {
        let mut other = config.clone();
        change(&mut other);
        let trainer = Trainer::new(&other, &CrossEntropy).with_checkpoints(&folder, true);
        assert_other(run(&trainer, model(1), &examples, None).map(|_| ()), &folder);
    }
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, true);
    let mut others = examples.clone();
    others[3].tokens[2] = (others[3].tokens[2] + 1) % VOCAB as u32;
    assert_other(run(&trainer, model(1), &others, None).map(|_| ()), &folder);
    others = examples.clone();
    others[3].targets[2] = None;
    assert_other(run(&trainer, model(1), &others, None).map(|_| ()), &folder);
    let validated = trainer.with_validation(&others);
    assert_other(run(&validated, model(1), &examples, None).map(|_| ()), &folder);
    // When to save changes no number.
    let often = TrainConfig { checkpoint_every: Some(2), ..config.clone() };
    let trainer = Trainer::new(&often, &CrossEntropy).with_checkpoints(&folder, true);
    let rest = run(&trainer, model(1), &examples, None).unwrap();
    assert_eq!(rest.losses(), uninterrupted(&config, &examples).losses()[3..]);
}

#[track_caller]
fn assert_other(result: Result<(), TrainError>, folder: &CheckpointFolder) {
    match result {
        Err(TrainError::Checkpoint(TrainCheckpointError::OtherRun { folder: named, .. })) => {
            assert_eq!(named, folder.of_step(3));
        }
        other => panic!("{other:?}"),
    }
}

/// Cross-entropy, and once in a while no number.
struct Poisoned {
    calls: AtomicUsize,
    call: usize,
}

impl Objective<Train> for Poisoned {
    fn loss(
        &self,
        logits: Tensor<Train, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<Train, 1>, LmError> {
        let loss = CrossEntropy.loss(logits, batch)?;
        match self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.call {
            true => Ok(loss * f32::NAN),
            false => Ok(loss),
        }
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_behind_the_last_good_step() {
    let examples = corpus();
    let config = TrainConfig { micro_batch_tokens: 100, ..config() };
    let whole = uninterrupted(&config, &examples);
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(parent.path(), 1).unwrap();
    let objective = Poisoned { calls: AtomicUsize::new(0), call: 8 };
    let trainer = Trainer::new(&config, &objective).with_checkpoints(&folder, false);
    let mut last = None;
    let mut watch = |event: &TrainEvent| {
        if let TrainEvent::Step(step) = event {
            last = Some(step.step);
        }
        std::ops::ControlFlow::Continue(())
    };
    let error = trainer.run(model(1), &examples, &mut watch).map(|_| ()).unwrap_err();
    let message = error.to_string();
    let TrainError::NotFinite { step: 8, what: "loss", value, lines, checkpoint } = error else {
        panic!("{error}")
    };
    assert_eq!(last, Some(7));
    assert!(value.is_nan());
    assert!(lines.len() == 3 && lines.iter().all(|line| line % 2 == 1 && *line < 26), "{lines:?}");
    assert_eq!(checkpoint, Some(folder.of_step(7)));
    assert!(message.contains("step 8: loss is NaN") && message.contains("step-00000007"));
    // It is that of a run that was healthy so far, and goes on as one.
    let (loaded, _, state) = folder.load(7, model(5), config.optimizer).unwrap();
    assert_eq!(state.step, 7);
    let seven = Trainer::new(&config, &CrossEntropy);
    let seven = run(&seven, model(1), &examples, Some(7)).unwrap();
    assert_eq!(bits(&loaded), bits(&seven.model));
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, true);
    let rest = run(&trainer, model(5), &examples, None).unwrap();
    assert_eq!(rest.losses(), whole.losses()[7..]);
}

#[test]
fn parameters_that_are_no_numbers_are_never_saved() {
    let examples = corpus();
    // Rates whose first steps overflow: in the loss, or in the parameters themselves.
    for learning_rate in [1e38, 1e39, 1e300] {
        for checkpoint_every in [None, Some(1)] {
            let config =
                TrainConfig { learning_rate, checkpoint_every, warmup_ratio: 0.0, ..config() };
            let parent = tempfile::tempdir().unwrap();
            let folder = CheckpointFolder::open(parent.path(), 3).unwrap();
            let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
            let error = run(&trainer, model(1), &examples, None).map(|_| ()).unwrap_err();
            let TrainError::NotFinite { step, lines, checkpoint, .. } = error else {
                panic!("{error}")
            };
            assert!(step <= 6 && !lines.is_empty(), "{step}");
            assert_eq!(checkpoint, folder.steps().unwrap().pop().map(|step| folder.of_step(step)));
            for step in folder.steps().unwrap() {
                let (loaded, _, _) = folder.load(step, model(2), config.optimizer).unwrap();
                assert!(bits(&loaded).into_iter().all(|bits| f32::from_bits(bits).is_finite()));
            }
        }
    }
    // A parameter that was none from the start: there is nothing good to save.
    let data = TensorData::new(vec![f32::NAN; VOCAB * VOCAB], [VOCAB, VOCAB]);
    let table = Param::from_tensor(Tensor::<Train, 2>::from_data(data, &FlexDevice));
    let (parent, config) = (tempfile::tempdir().unwrap(), config());
    let folder = CheckpointFolder::open(parent.path(), 3).unwrap();
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
    let error = run(&trainer, BigramLm { table }, &examples, None).map(|_| ()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 1, checkpoint: None, .. }), "{error}");
    assert_eq!(folder.steps().unwrap(), [0u64; 0]);
}

/// A checkpoint of step 3.
fn saved(parent: &Path) -> CheckpointFolder {
    let folder = CheckpointFolder::open(parent, 1).unwrap();
    let config = config();
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
    run(&trainer, model(1), &corpus(), Some(3)).unwrap();
    folder
}

fn load(folder: &CheckpointFolder) -> Result<BigramLm<Train>, TrainCheckpointError> {
    Ok(folder.load(3, model(2), AdamWConfig::default())?.0)
}

fn safetensors(file: &Path, tensors: &[(&str, StoredDtype, &[usize])]) {
    let spec = |(name, dtype, shape): &(&str, StoredDtype, &[usize])| TensorSpec {
        name: (*name).to_owned(),
        dtype: *dtype,
        shape: shape.to_vec(),
    };
    let specs = tensors.iter().map(spec);
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        writer.write(&vec![0; spec.bytes()]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn files_that_are_not_whole() {
    let parent = tempfile::tempdir().unwrap();
    let folder = saved(parent.path());
    load(&folder).unwrap();
    for name in ["run.json", "parameters.safetensors", "optimizer.safetensors"] {
        let file = folder.of_step(3).join(name);
        let whole = fs::read(&file).unwrap();
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            match load(&folder).map(|_| ()).unwrap_err() {
                TrainCheckpointError::Malformed { file: named, .. } => assert_eq!(named, file),
                // A truncated JSON of a whole number: `{"version": 1` never closes, so this is not it.
                other => panic!("{len} bytes of {name}: {other}"),
            }
        }
        fs::remove_file(&file).unwrap();
        let error = load(&folder).map(|_| ()).unwrap_err();
        assert!(matches!(&error, TrainCheckpointError::Io { file: named, .. } if *named == file));
        assert!(error.to_string().contains(name), "{error}");
        fs::write(&file, &whole).unwrap();
    }
    load(&folder).unwrap();
    assert!(matches!(
        folder.load(4, model(2), AdamWConfig::default()).map(|_| ()),
        Err(TrainCheckpointError::Io { .. })
    ));
    assert!(matches!(folder.load_best(model(2)).map(|_| ()), Err(TrainCheckpointError::Io { .. })));
}

#[test]
fn tensors_that_do_not_fit() {
    use StoredDtype::{Bf16, F32};
    let parent = tempfile::tempdir().unwrap();
    let folder = saved(parent.path());
    let square: &[usize] = &[VOCAB, VOCAB];
    let parameters = "parameters.safetensors";
    let optimizer = "optimizer.safetensors";
    let (first, second) = ("table.exp_avg", "table.exp_avg_sq");
    // The file, what it holds, the tensor that is named, a word of the message.
    type Case<'a> = (&'a str, &'a [(&'a str, StoredDtype, &'a [usize])], &'a str, &'a str);
    let cases: [Case<'_>; 10] = [
        (parameters, &[], "table", "not found"),
        (parameters, &[("table", F32, &[VOCAB])], "table", "[5], expected F32 [5, 5]"),
        (parameters, &[("table", F32, &[VOCAB * VOCAB])], "table", "[25], expected"),
        (parameters, &[("table", F32, &[0])], "table", "[0], expected"),
        (parameters, &[("table", Bf16, square)], "table", "BF16 [5, 5], expected F32"),
        (parameters, &[("table", F32, square), ("bias", F32, &[5])], "bias", "no such parameter"),
        (optimizer, &[(first, F32, square)], second, "not found"),
        (optimizer, &[(second, F32, square)], first, "not found"),
        (optimizer, &[(first, F32, square), (second, F32, &[25])], second, "[25], expected"),
        (optimizer, &[("head.exp_avg", F32, square)], "head.exp_avg", "no such parameter"),
    ];
    for (name, tensors, wrong, word) in cases {
        let file = folder.of_step(3).join(name);
        let whole = fs::read(&file).unwrap();
        safetensors(&file, tensors);
        let error = load(&folder).map(|_| ()).unwrap_err();
        let message = error.to_string();
        let TrainCheckpointError::Tensor { file: named, name: tensor, .. } = error else {
            panic!("{tensors:?}: {message}")
        };
        assert_eq!((named, tensor.as_str()), (file.clone(), wrong), "{message}");
        let reason = message.to_lowercase().replace("tensornotfound", "not found");
        assert!(message.contains(word) || reason.contains(word), "{message}, not {word}");
        fs::write(&file, whole).unwrap();
    }
    // A model of another size.
    let other = BigramLm::<Train>::new(VOCAB + 1, 1, &FlexDevice);
    let error = folder.load(3, other, AdamWConfig::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, TrainCheckpointError::Tensor { name, .. } if name == "table"));
    // Nothing to put the parameters into.
    let error = folder.load(3, model(1).no_grad(), AdamWConfig::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, TrainCheckpointError::Tensor { name, .. } if name == "table"));
    // A model whose optimizer has not begun.
    safetensors(&folder.of_step(3).join(optimizer), &[]);
    load(&folder).unwrap();
}

#[test]
fn states_that_say_something_else() {
    let parent = tempfile::tempdir().unwrap();
    let folder = saved(parent.path());
    let file = folder.of_step(3).join("run.json");
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut state = whole.clone();
        state[field] = value;
        fs::write(&file, state.to_string()).unwrap();
        load(&folder).map(|_| ()).unwrap_err()
    };
    for (version, found) in [(2.into(), 2), (0.into(), 0), (u64::MAX.into(), u32::MAX)] {
        let error = with("version", version);
        let message = error.to_string();
        let TrainCheckpointError::Version { file: named, found: f, known: 1 } = error else {
            panic!("{error}")
        };
        assert_eq!((named, f), (file.clone(), found), "{message}");
        assert!(message.contains("run.json"), "{message}");
    }
    let impossible: [(&str, serde_json::Value); 6] = [
        ("step", "three".into()),
        ("step", (-3).into()),
        ("step", 4.into()),
        ("tokens", 0.5.into()),
        ("best_loss_bits", "NaN".into()),
        ("fingerprint", 1.into()),
    ];
    for (field, value) in impossible {
        let error = with(field, value);
        let message = error.to_string();
        assert!(matches!(&error, TrainCheckpointError::Malformed { file: f, .. } if *f == file));
        assert!(message.contains(field), "{message} does not name {field}");
    }
    for text in ["", "null", "[]", "3", "{\"version\": 1}", "{\"version\": 1,", "\u{0}"] {
        fs::write(&file, text).unwrap();
        let error = load(&folder).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("run.json"), "{error}");
        let typed = matches!(
            error,
            TrainCheckpointError::Malformed { .. } | TrainCheckpointError::Version { found: 0, .. }
        );
        assert!(typed, "{text}: {error}");
    }
}
