//! What cannot be is said before anything is loaded, and costs nothing.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::training::{
    LoraConfig, Method, OnBadRow, QatConfig, ReadOptions, TrainConfig, TrainEvent, TrainingModel,
    TrainingOptions, perplexity, read_examples,
};
use lightglm::{Error, ProgressSink};

use crate::checkpoint_folder::{rows, write_model};

fn go_on(_: &TrainEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn rank(rank: usize) -> LoraConfig {
    LoraConfig { rank, ..LoraConfig::default() }
}

/// A method that is impossible is refused where there is no model at all.
#[test]
fn impossible_methods() {
    let qat = |kl_weight, lora| {
        let Method::Qat(config) = Method::qat("w8a8").unwrap() else { panic!("not QAT") };
        Method::Qat(QatConfig { kl_weight, lora, ..config })
    };
    let open = |method| TrainingModel::open("/nowhere/at/all", method).unwrap_err();
    assert!(matches!(open(Method::Lora(rank(0))), Error::Lora(_)));
    assert!(matches!(open(qat(1.0, Some(rank(0)))), Error::Lora(_)));
    let bad_share = open(qat(1.5, None));
    assert!(matches!(bad_share, Error::Option { option: "kl_weight", .. }), "{bad_share}");
    assert!(matches!(open(qat(f64::NAN, None)), Error::Option { option: "kl_weight", .. }));
    assert!(matches!(Method::qat("int9"), Err(Error::Scheme(_))));
}

/// A method that does not fit the model is refused without its weights, which are not there.
#[test]
fn methods_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let open = |method| TrainingModel::open(&base, method).unwrap_err();
    let targets = vec!["query".to_owned(), "embed_tokens".to_owned()];
    let nothing = open(Method::Lora(LoraConfig { target_modules: targets, ..rank(4) }));
    assert!(matches!(nothing, Error::Option { option: "target_modules", .. }), "{nothing}");
    // One that finds nothing beside one that does: what was asked for would be left out.
    for (target, hint) in
        [("up_proj", "gate_up_proj"), ("embed_tokens", "beside projections"), ("qq", "qq")]
    {
        let target_modules = vec!["q_proj".to_owned(), target.to_owned()];
        let error = open(Method::Lora(LoraConfig { target_modules, ..rank(4) }));
        assert!(error.to_string().contains(hint), "{error}");
    }
    let target_modules = vec!["(q".to_owned()];
    let error = open(Method::Lora(LoraConfig { target_modules, ..rank(4) }));
    assert!(error.to_string().contains("no regular expression"), "{error}");
    for targets in ["all-linear", r".*\.(q|v)_proj", r"model\.layers\.1\..*"] {
        let config = LoraConfig { target_modules: vec![targets.to_owned()], ..rank(4) };
        let student = TrainingModel::open(&base, Method::Lora(config)).unwrap();
        assert!(student.trainable_parameters().unwrap() > 0, "{targets}");
    }
    let policy = "*.query=int8".parse().unwrap();
    let nothing = open(Method::Qat(QatConfig::new(policy)));
    assert!(matches!(nothing, Error::Policy(_)), "{nothing}");
    let short = TrainingOptions { max_tokens: 1, ..TrainingOptions::default() };
    let short = TrainingModel::open_with(&base, Method::Full, short).unwrap_err();
    assert!(matches!(short, Error::Option { option: "max_tokens", .. }), "{short}");

    let packed = folder.path().join("packed");
    TrainingModel::open(&base, Method::qat("w8a8").unwrap()).unwrap().save(&packed).unwrap();
    let error = TrainingModel::open(&packed, Method::Full).unwrap_err();
    assert!(matches!(&error, Error::QuantizedForTraining { file } if *file == packed), "{error}");
}

#[test]
fn only_lora_has_an_adapter_to_save() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let Method::Qat(config) = Method::qat("w8a8").unwrap() else { panic!("not QAT") };
    let with_adapters = Method::Qat(QatConfig { lora: Some(rank(4)), ..config });
    for method in [Method::Full, with_adapters] {
        let student = TrainingModel::open(&base, method).unwrap();
        let adapter = folder.path().join("adapter");
        let error = student.save_adapter(&adapter).unwrap_err();
        assert!(matches!(error, Error::NoAdapter { .. }), "{error}");
        assert!(!adapter.exists());
    }
}

/// The model is as it was: the next run, with settings that are possible, succeeds.
#[test]
fn refused_runs_leave_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let mut student = TrainingModel::open(&base, Method::Lora(rank(4))).unwrap();
    let rows = student.tokenize(&rows(folder.path())).unwrap();
    let good = TrainConfig { epochs: 1, ..student.recommended() };
    let refused = |student: &mut TrainingModel, rows, config: TrainConfig| {
        let error = student.train(rows, &config, go_on).unwrap_err();
        assert!(matches!(error, Error::Training(_)), "{error}");
        error.to_string()
    };
    let told = refused(&mut student, &rows, TrainConfig { batch_size: 0, ..good.clone() });
    assert!(told.contains("batch_size"), "{told}");
    let told = refused(&mut student, &rows, TrainConfig { micro_batch_tokens: 5, ..good.clone() });
    assert!(told.contains("line 1") && told.contains("micro_batch_tokens"), "{told}");
    refused(&mut student, &[], good.clone());
    student.train(&rows, &good, go_on).unwrap();

    // A rate at which numbers overflow costs the model; each call says so.
    let absurd = TrainConfig { learning_rate: 1e30, epochs: 20, ..good.clone() };
    refused(&mut student, &rows, absurd);
    assert!(matches!(student.train(&rows, &good, go_on), Err(Error::TrainingFailed)));
    assert!(matches!(student.model(), Err(Error::TrainingFailed)));
    assert!(matches!(student.save(folder.path().join("lost")), Err(Error::TrainingFailed)));
    assert!(!folder.path().join("lost").exists());
}

#[test]
fn bad_rows_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let student = TrainingModel::open(&base, Method::Full).unwrap();
    let file = folder.path().join("bad.jsonl");
    let good =
        r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes"}]}"#;
    let bad = r#"{"messages":[{"role":"user","content":7},{"role":"assistant","content":"Yes"}]}"#;
    fs::write(&file, format!("{good}\n{bad}\n{good}\n")).unwrap();
    let read = |on_bad_row| -> Result<_, Error> {
        let options = ReadOptions { on_bad_row, ..ReadOptions::default() };
        student.tokenize(&read_examples(&file, &options)?)
    };
    let error = read(OnBadRow::Fail).unwrap_err();
    assert!(matches!(error, Error::Rows(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("bad.jsonl") && told.contains('2') && told.contains("content"), "{told}");
    let rows = read(OnBadRow::Drop).unwrap();
    assert_eq!((rows.len(), rows.report.total_dropped(), rows.report.rows), (2, 1, 3));

    // Rows that are too long are left out and counted.
    let options = TrainingOptions { max_tokens: 12, ..TrainingOptions::default() };
    let short = TrainingModel::open_with(&base, Method::Full, options.clone()).unwrap();
    let error = short.tokenize(&rows_of(folder.path())).unwrap_err().to_string();
    assert!(error.contains("more than half") && error.contains("too many tokens"), "{error}");
    let options = TrainingOptions { allow_dropped: true, ..options };
    let short = TrainingModel::open_with(&base, Method::Full, options).unwrap();
    let rows = short.tokenize(&rows_of(folder.path())).unwrap();
    assert_eq!((rows.len(), rows.report.total_dropped()), (0, 20));
    // And there is nothing to measure on.
    let error = perplexity(&short.model().unwrap(), &rows, &ProgressSink::default()).unwrap_err();
    assert!(matches!(error, Error::Option { option: "rows", .. }), "{error}");
}

fn rows_of(folder: &Path) -> lightglm::training::ExampleSet {
    rows(folder)
}
