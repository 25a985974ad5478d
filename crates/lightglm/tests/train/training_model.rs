//! `TrainingModel`: every method learns, and what is saved opens as what was trained.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::quantize::{QuantizeOptions, quantize};
use lightglm::training::{
    CheckpointFolder, Checkpoints, LoraConfig, Method, QatConfig, RunOptions, StopReason,
    TrainConfig, TrainEvent, TrainingModel, answers, conversations, perplexity,
};
use lightglm::{LoadOptions, Model, Policy, ProgressSink, Prompt, Request, SamplingParams};
use lightglm_model::checkpoint::Checkpoint;

use crate::checkpoint_folder::{rows, write_model};

/// Losses of the same weights added up in another order (adapters beside a weight or in it), of the
/// perplexity.
const REORDERED: f64 = 1e-4;

fn lora() -> Method {
    Method::Lora(LoraConfig { rank: 8, alpha: 16.0, ..LoraConfig::default() })
}

fn settings(student: &TrainingModel, learning_rate: f64) -> TrainConfig {
    TrainConfig { epochs: 6, batch_size: 4, learning_rate, ..student.recommended() }
}

/// Trains on all rows; returns the losses of the steps.
fn teach(student: &mut TrainingModel, folder: &Path, learning_rate: f64) -> Vec<f64> {
    let rows = student.tokenize(&rows(folder)).unwrap();
    assert_eq!((rows.len(), rows.report.total_dropped()), (20, 0));
    let config = settings(student, learning_rate);
    let mut losses = Vec::new();
    let outcome = student.train(&rows, &config, |event| {
        if let TrainEvent::Step(step) = event {
            losses.push(step.loss);
        }
        ControlFlow::Continue(())
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.reason, outcome.step), (StopReason::Finished, 30));
    losses
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Perplexity over the rows' answers, and the tokens of a greedy answer.
fn measure(model: &Model, student: &TrainingModel, folder: &Path) -> (f64, Vec<u32>) {
    let rows = student.tokenize(&rows(folder)).unwrap();
    let perplexity = perplexity(model, &rows, &ProgressSink::default()).unwrap();
    let greedy = SamplingParams { temperature: 0.0, max_tokens: 16, ..SamplingParams::default() };
    let prompt = Prompt::Tokens(rows[0].tokens[..12].to_vec());
    let reply = model.complete(Request { prompt, sampling: Some(greedy) }).unwrap();
    (perplexity, reply.token_ids)
}

fn open(folder: &Path, options: LoadOptions) -> Model {
    Model::open(folder, LoadOptions { kv_dtype: lightglm::KvDtype::F32, ..options }).unwrap()
}

fn assert_near(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < REORDERED, "{a} {b}");
}

#[test]
fn adapters_are_learnt_saved_and_opened_by_name() {
    for tied in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let base = write_model(folder.path(), tied);
        let mut student = TrainingModel::open(&base, lora()).unwrap();
        // Rank 8 beside q, k, v, o, gate_up and down of two layers.
        let sides = (64 + 64) + 2 * (64 + 32) + (64 + 64) + (64 + 224) + (112 + 64);
        assert_eq!(student.trainable_parameters().unwrap(), 2 * 8 * sides);
        let (before, _) = measure(&student.model().unwrap(), &student, folder.path());
        let losses = teach(&mut student, folder.path(), 1e-2);
        // Adapters on random weights: the first steps win most, the perplexity below says how much in all.
        assert!(mean(&losses[25..]) < 0.9 * mean(&losses[..5]), "{losses:?}");
        let (trained, said) = measure(&student.model().unwrap(), &student, folder.path());
        assert!(trained < 0.5 * before, "{before} {trained}");

        student.save_adapter(folder.path().join("adapters/parcels")).unwrap();
        let adapters = Some(folder.path().join("adapters"));
        let options = LoadOptions { adapters, ..LoadOptions::default() };
        let opened = open(&base, options).with_adapter("parcels").unwrap();
        let (again, said_again) = measure(&opened, &student, folder.path());
        assert_near(again, trained);
        assert_eq!(said_again, said);
        let json = fs::read_to_string(folder.path().join("adapters/parcels/adapter_config.json"));
        let json: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        assert_eq!(json["base_model_name_or_path"], base.display().to_string());

        student.save(folder.path().join("merged")).unwrap();
        let merged = open(&folder.path().join("merged"), LoadOptions::default());
        let (again, said_again) = measure(&merged, &student, folder.path());
        assert_near(again, trained);
        assert_eq!(said_again, said);
    }
}

/// QLoRA: the base stays packed, in the student and in the model that is asked; its adapters are what
/// the quantized model loads, and a merged folder is dense.
#[test]
fn adapters_are_learnt_beside_quantized_weights() {
    for policy in ["int8", "int4wo-g32"] {
        let folder = tempfile::tempdir().unwrap();
        let dense = write_model(folder.path(), true);
        let base = folder.path().join("packed");
        let policy = policy.parse::<Policy>().unwrap();
        let checkpoint = Checkpoint::open(&dense).unwrap();
        quantize(&checkpoint, &QuantizeOptions::from(policy.clone()), &base).unwrap();
        let mut student = TrainingModel::open(&base, lora()).unwrap();
        let model = student.model().unwrap();
        assert!(model.is_integer());
        let (before, _) = measure(&model, &student, folder.path());
        teach(&mut student, folder.path(), 1e-2);
        let (trained, said) = measure(&student.model().unwrap(), &student, folder.path());
        assert!(trained < 0.5 * before, "{policy}: {before} {trained}");

        student.save_adapter(folder.path().join("adapters/parcels")).unwrap();
        let adapters = Some(folder.path().join("adapters"));
        let options = LoadOptions { adapters, ..LoadOptions::default() };
        let opened = open(&base, options).with_adapter("parcels").unwrap();
        let (again, said_again) = measure(&opened, &student, folder.path());
        assert_near(again, trained);
        assert_eq!(said_again, said);

        student.save(folder.path().join("merged")).unwrap();
        let merged = open(&folder.path().join("merged"), LoadOptions::default());
        let (again, _) = measure(&merged, &student, folder.path());
        // Without the rounding of activations.
        assert!((again / trained - 1.0).abs() < 0.05, "{policy}: {again} {trained}");
    }
}

#[test]
fn all_parameters_are_learnt_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), true);
    let mut student = TrainingModel::open(&base, Method::Full).unwrap();
    let all = student.checkpoint().config().num_parameters();
    assert_eq!(student.trainable_parameters().unwrap() as u64, all);
    let losses = teach(&mut student, folder.path(), 3e-3);
    assert!(mean(&losses[25..]) < 0.5 * mean(&losses[..5]), "{losses:?}");
    let (trained, said) = measure(&student.model().unwrap(), &student, folder.path());
    student.save(folder.path().join("model")).unwrap();
    let saved = open(&folder.path().join("model"), LoadOptions::default());
    assert_eq!(measure(&saved, &student, folder.path()), (trained, said));
    // What is asked is what was learnt.
    let rows = rows(folder.path());
    let asked = conversations(&rows.examples);
    let answers = answers(&saved, &asked, &ProgressSink::default()).unwrap();
    assert_eq!(answers.len(), 20);
    assert!(answers.iter().any(|answer| answer.contains("in") || answer.contains("on")));
}

/// The codes on disk are those of the trained weights, rounded as the policy says, and the model that
/// is opened computes what the one in memory does.
#[test]
fn quantized_models_open_with_the_codes_that_were_trained() {
    let adapters = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    for (scheme, tied, lora) in
        [("w8a8", false, None), ("int4wo-g32", true, None), ("w8a8", true, Some(adapters))]
    {
        let folder = tempfile::tempdir().unwrap();
        let base = write_model(folder.path(), tied);
        let Method::Qat(config) = Method::qat(scheme).unwrap() else { panic!("not QAT") };
        let rate = if lora.is_some() { 1e-2 } else { 3e-3 };
        // The rows' answers count as well, so that weights move.
        let config = QatConfig { lora, kl_weight: 0.2, int8_kv: true, ..config };
        let mut student = TrainingModel::open(&base, Method::Qat(config)).unwrap();
        let teacher = student.teacher().unwrap().expect("QAT has a teacher");
        let (dense, _) = measure(&teacher, &student, folder.path());
        assert_eq!(measure(&open(&base, LoadOptions::default()), &student, folder.path()).0, dense);
        let losses = teach(&mut student, folder.path(), rate);
        assert!(mean(&losses[25..]) < mean(&losses[..5]), "{losses:?}");
        let trained = measure(&student.model().unwrap(), &student, folder.path());

        let packed = folder.path().join("packed");
        student.save(&packed).unwrap();
        assert_eq!(
            measure(&open(&packed, LoadOptions::default()), &student, folder.path()),
            trained
        );
        assert!(trained.0 < dense, "{scheme}: nothing was learnt: {} {dense}", trained.0);

        // Rounded without training the codes are others.
        let untrained = TrainingModel::open(&base, student.method().clone()).unwrap();
        let rounded = folder.path().join("rounded");
        untrained.save(&rounded).unwrap();
        let codes = |folder: &Path| {
            let checkpoint = Checkpoint::open(folder).unwrap();
            let name = "model.layers.0.mlp.down_proj.codes";
            checkpoint.weights().stored(name).unwrap().parts.concat()
        };
        assert_ne!(codes(&packed), codes(&rounded));
    }
}

/// An interrupted run goes on where it was, and ends with the weights of one that was not.
#[test]
fn a_run_is_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let mut whole = TrainingModel::open(&base, lora()).unwrap();
    let tokenized = whole.tokenize(&rows(folder.path())).unwrap();
    let (train, validation) = tokenized.split_at(16);
    let config = settings(&whole, 1e-2);
    let run = RunOptions { validation, ..RunOptions::default() };
    let mut validations = 0;
    let outcome = whole.train_with(train, &config, run, |event| {
        validations += usize::from(matches!(event, TrainEvent::Validation { .. }));
        ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().best.is_some());
    assert_eq!(validations, 6);

    let checkpoints = CheckpointFolder::open(&folder.path().join("checkpoints"), 2).unwrap();
    let run = |resume| RunOptions {
        validation,
        checkpoints: Some(Checkpoints { folder: &checkpoints, resume }),
    };
    let mut first = TrainingModel::open(&base, lora()).unwrap();
    let outcome = first.train_with(train, &config, run(false), |event| match event {
        TrainEvent::Step(step) if step.step == 7 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.reason, outcome.step), (StopReason::Interrupted, 7));
    let mut second = TrainingModel::open(&base, lora()).unwrap();
    let go_on = |_: &TrainEvent| ControlFlow::Continue(());
    // A fresh run does not overwrite what is there, and the model is as it was.
    let error = second.train_with(train, &config, run(false), go_on).unwrap_err();
    assert!(error.to_string().contains("holds checkpoints up to step 7"), "{error}");
    let outcome = second.train_with(train, &config, run(true), go_on).unwrap();
    assert_eq!(outcome.reason, StopReason::Finished);
    for name in ["whole", "second"] {
        let student = if name == "whole" { &whole } else { &second };
        student.save_adapter(folder.path().join(name)).unwrap();
    }
    let file = |name: &str| fs::read(folder.path().join(name).join("adapter_model.safetensors"));
    assert_eq!(file("whole").unwrap(), file("second").unwrap());
}

/// Head and table learn whole, beside a dense base and a packed one, and PEFT's file has them.
#[test]
fn heads_and_tables_are_learnt_whole() {
    let names = ["lm_head", "embed_tokens"].map(str::to_owned);
    let targets = |targets: &[&str], saved: &[String]| {
        let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
        let modules_to_save = saved.to_vec();
        let config = LoraConfig {
            rank: 4,
            alpha: 8.0,
            target_modules,
            modules_to_save,
            ..LoraConfig::default()
        };
        Method::Lora(config)
    };
    for packed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let dense = write_model(folder.path(), false);
        let base = if packed { folder.path().join("packed") } else { dense.clone() };
        if packed {
            let policy: Policy = "*=int8".parse().unwrap();
            quantize(&Checkpoint::open(&dense).unwrap(), &policy.into(), &base).unwrap();
        }
        let pattern = r"model\.layers\.\d+\.self_attn\.(v)_proj";
        let mut student = TrainingModel::open(&base, targets(&[pattern], &names)).unwrap();
        let config = student.checkpoint().config().clone();
        let table = config.vocab_size * config.hidden_size;
        let sides = config.hidden_size + config.num_key_value_heads * config.head_dim;
        let parameters = 2 * table + config.num_hidden_layers * 4 * sides;
        assert_eq!(student.trainable_parameters().unwrap(), parameters);
        let (before, _) = measure(&student.model().unwrap(), &student, folder.path());
        teach(&mut student, folder.path(), 3e-3);
        let (trained, said) = measure(&student.model().unwrap(), &student, folder.path());
        assert!(trained < 0.5 * before, "{before} {trained}");

        let adapter = folder.path().join("adapters/whole");
        student.save_adapter(&adapter).unwrap();
        let file = fs::read(adapter.join("adapter_model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        for name in ["lm_head", "model.embed_tokens"] {
            let tensor = tensors.tensor(&format!("base_model.model.{name}.weight")).unwrap();
            assert_eq!(tensor.shape(), [config.vocab_size, config.hidden_size]);
            if !packed {
                let base = Checkpoint::open(&base).unwrap();
                let base = base.weights().tensor(&format!("{name}.weight")).unwrap();
                assert_ne!(tensor.data(), &base.bytes[..], "{name} did not move");
            }
        }
        let json = fs::read(adapter.join("adapter_config.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["modules_to_save"], serde_json::json!(names));
        // PEFT knows no expressions in a list.
        let whole = [0, 1].map(|layer| format!("model.layers.{layer}.self_attn.v_proj"));
        assert_eq!(json["target_modules"], serde_json::json!(whole));
        let adapters = Some(folder.path().join("adapters"));
        let options = LoadOptions { adapters, ..LoadOptions::default() };
        let opened = open(&base, options).with_adapter("whole").unwrap();
        student.save(folder.path().join("merged")).unwrap();
        let merged = open(&folder.path().join("merged"), LoadOptions::default());
        // Packed projections are widened in a merged folder, where activations are not rounded.
        for (model, packed) in [(opened, false), (merged, packed)] {
            let (again, said_again) = measure(&model, &student, folder.path());
            match packed {
                false => assert_near(again, trained),
                true => assert!((again / trained - 1.0).abs() < 0.1, "{again} {trained}"),
            }
            assert!(packed || said_again == said);
        }
        if packed {
            continue;
        }
        let refused = [
            (targets(&["v_proj"], &["norm".to_owned()]), "`norm` is neither"),
            (targets(&["v_proj", "lm_head"], &names), "one or the other"),
        ];
        for (method, reason) in refused {
            let error = TrainingModel::open(&base, method).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let tied = write_model(&folder.path().join("tied"), true);
        let error =
            TrainingModel::open(&tied, targets(&["v_proj"], &names)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("lm_head: the model's head is its table"), "{error}");
    }
}
