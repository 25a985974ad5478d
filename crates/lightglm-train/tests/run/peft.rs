//! What is wrong with an adapter's files: each error, with the file and the tensor or field it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use StoredDtype::{Bf16, F16, F32, I32};
use lightglm_core::{ProjectionLayout, SafetensorsWriter, StoredDtype, TensorSpec};
use lightglm_train::lora::{Lora, LoraError};
use lightglm_train::peft::{CONFIG_FILE, MODEL_FILE, PeftError, load_adapter};
use serde_json::{Value, json};

const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

type Tensors<'a> = &'a [(&'a str, StoredDtype, &'a [usize])];

const GOOD: Tensors<'static> = &[(A, F32, &[2, 5]), (B, F32, &[3, 2])];

fn config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4,
        "lora_dropout": 0.25, "target_modules": ["q_proj", "o_proj"], "bias": "none",
        "use_rslora": false, "use_dora": false, "rank_pattern": {}, "alpha_pattern": {},
        "modules_to_save": null, "fan_in_fan_out": false, "init_lora_weights": true,
        "layers_to_transform": null, "something_new": "a",
    })
}

fn write(folder: &Path, config: &str, tensors: Tensors<'_>) {
    fs::write(folder.join(CONFIG_FILE), config).unwrap();
    let spec = |(name, dtype, shape): &(&str, StoredDtype, &[usize])| TensorSpec {
        name: (*name).to_owned(),
        dtype: *dtype,
        shape: shape.to_vec(),
    };
    let specs = tensors.iter().map(spec);
    let file = folder.join(MODEL_FILE);
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        writer.write(&vec![0x3c; spec.bytes()]).unwrap();
    }
    writer.finish().unwrap();
}

/// For a model with one projection, `[3, 5]`.
fn load(folder: &Path) -> Result<Lora, PeftError> {
    let shape = |name: &str| (name == "model.layers.0.self_attn.q_proj").then_some([3, 5]);
    load_adapter(folder, "default", &shape, ProjectionLayout::Glm)
}

fn error(config: &Value, tensors: Tensors<'_>) -> PeftError {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config.to_string(), tensors);
    load(folder.path()).map(|_| ()).unwrap_err()
}

#[test]
fn good_adapters() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [F32, F16, Bf16] {
        write(folder.path(), &config().to_string(), &[(A, dtype, &[2, 5]), (B, dtype, &[3, 2])]);
        let lora = load(folder.path()).unwrap();
        let config = lora.config();
        assert_eq!(
            (lora.name(), config.rank, config.alpha, config.dropout),
            ("default", 2, 4.0, 0.25)
        );
        assert_eq!(config.target_modules, ["q_proj"], "those that have matrices");
        assert_eq!(config.scale(), 2.0);
    }
    let mut rslora = config();
    rslora["use_rslora"] = true.into();
    for initialization in [json!(false), json!(null), json!("gaussian"), json!("eva")] {
        rslora["init_lora_weights"] = initialization;
        write(folder.path(), &rslora.to_string(), GOOD);
        assert_eq!(load(folder.path()).unwrap().config().scale(), 4.0 / 2f64.sqrt());
    }
    // As short as PEFT allows.
    write(folder.path(), r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1}"#, GOOD);
    assert_eq!(load(folder.path()).unwrap().config().dropout, 0.0);
}

#[test]
fn fields_that_are_not_supported() {
    let cases = [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["score"])),
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["experts"])),
        ("alora_invocation_tokens", json!([5])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("loftq")),
    ];
    for (field, value) in cases {
        let mut config = config();
        config[field] = value.clone();
        let error = error(&config, GOOD);
        let message = error.to_string();
        let PeftError::Unsupported { file, field: named, .. } = error else { panic!("{error}") };
        assert_eq!(named, field);
        assert!(file.ends_with(CONFIG_FILE) && message.contains(field), "{message}");
    }
}

#[test]
fn configurations_that_cannot_be() {
    type Check = fn(&LoraError) -> bool;
    let cases: [(&str, Value, Check); 3] = [
        ("lora_alpha", json!(0), |e| matches!(e, LoraError::Alpha(_))),
        ("lora_dropout", json!(1.0), |e| matches!(e, LoraError::Dropout(_))),
        ("lora_dropout", json!(-0.5), |e| matches!(e, LoraError::Dropout(_))),
    ];
    for (field, value, is_expected) in cases {
        let mut config = config();
        config[field] = value;
        let error = error(&config, GOOD);
        let PeftError::Config { file, source } = &error else { panic!("{field}: {error}") };
        assert!(file.ends_with(CONFIG_FILE) && is_expected(source), "{error}");
    }
    let malformed = [("r", json!(-1)), ("r", json!("two")), ("lora_alpha", json!(null))];
    for (field, value) in malformed {
        let mut config = config();
        config[field] = value;
        let error = error(&config, GOOD);
        let message = error.to_string();
        assert!(matches!(&error, PeftError::Malformed { file, .. } if file.ends_with(CONFIG_FILE)));
        assert!(message.contains(field), "{message} does not name {field}");
    }
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "{", "[]", "null", r#"{"peft_type": "LORA", "lora_alpha": 1}"#] {
        write(folder.path(), text, GOOD);
        let error = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, PeftError::Malformed { file, .. } if file.ends_with(CONFIG_FILE)));
    }
}

#[test]
fn tensors_that_do_not_fit() {
    let strange = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector";
    let elsewhere = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight";
    let elsewhere_b = "base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight";
    let cases: [(Tensors<'_>, &str, &str); 10] = [
        (&[(A, F32, &[2, 5])], A, "lora_B"),
        (&[(B, F32, &[3, 2])], B, "lora_A"),
        (&[(A, F32, &[2, 4]), (B, F32, &[3, 2])], A, "[2, 4]"),
        (&[(A, F32, &[2, 5]), (B, F32, &[4, 2])], B, "[4, 2]"),
        (&[(A, F32, &[2, 5]), (B, F32, &[3, 3])], B, "[3, 3]"),
        (&[(A, F32, &[3, 5]), (B, F32, &[3, 3])], A, "rank 3, the configuration has 2"),
        (&[(A, F32, &[10]), (B, F32, &[3, 2])], A, "not a matrix"),
        (&[(A, F32, &[2, 5]), (B, I32, &[3, 2])], B, "I32"),
        (&[(A, F32, &[2, 5]), (B, F32, &[3, 2]), (strange, F32, &[3])], strange, "DoRA"),
        (
            &[(elsewhere, F32, &[2, 5]), (elsewhere_b, F32, &[3, 2])],
            elsewhere,
            "no such projection",
        ),
    ];
    for (tensors, wrong, word) in cases {
        let error = error(&config(), tensors);
        let message = error.to_string();
        let PeftError::Tensor { file, name, .. } = error else { panic!("{tensors:?}: {error}") };
        assert!(file.ends_with(MODEL_FILE), "{message}");
        assert_eq!(name, wrong, "{message}");
        assert!(message.contains(word), "{message}, not {word}");
    }
}

#[test]
fn files_that_are_not_there_or_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    for missing in [CONFIG_FILE, MODEL_FILE] {
        write(folder.path(), &config().to_string(), GOOD);
        let file = folder.path().join(missing);
        fs::remove_file(&file).unwrap();
        let error = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, PeftError::Io { file: named, .. } if *named == file), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
    write(folder.path(), &config().to_string(), GOOD);
    let file = folder.path().join(MODEL_FILE);
    let whole = fs::read(&file).unwrap();
    for len in 0..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        let error = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, PeftError::Malformed { file: named, .. } if *named == file));
    }
    let error = error(&config(), &[]);
    assert!(matches!(error, PeftError::Malformed { reason, .. } if reason == "no matrices"));
}

/// What torch 2.15 saved of `{A: [2, 5], B: [3, 2]}`: views of one storage (B transposed), parameters of half
/// precision in a state dict, protocol 4; and what is refused.
#[test]
fn files_of_torch_save() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_save");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config().to_string(), GOOD);
    let (safetensors, file) =
        (folder.path().join(MODEL_FILE), folder.path().join("adapter_model.bin"));
    fs::remove_file(&safetensors).unwrap();
    let read = |name: &str| {
        fs::copy(data.join(name), &file).unwrap();
        load(folder.path())
    };
    let matrices = |lora: Lora| {
        let low = &lora.matrices()["model.layers.0.self_attn.q_proj"];
        [low.lora_a.clone(), low.lora_b.clone()]
    };
    let lora_a = [
        0.803_276_06,
        0.174_833_39,
        0.088_978_1,
        -0.613_718_03,
        0.046_182_45,
        -1.368_259_2,
        0.337_495_1,
        1.011_115_9,
        -1.435_179_4,
        0.977_431_8,
    ];
    let lora_b =
        [0.522_049_96, 1.237_916_7, -0.864_635_6, 0.298_960_83, 0.419_218_66, -0.079_854_324];
    for name in ["views.bin", "p4.bin"] {
        assert_eq!(matrices(read(name).unwrap()), [lora_a.to_vec(), lora_b.to_vec()], "{name}");
    }
    let halves = matrices(read("dtypes.bin").unwrap());
    let near = |found: &[f32], wanted: &[f32], error: f32| {
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < error)
    };
    assert!(near(&halves[0], &lora_a, 0.004) && near(&halves[1], &lora_b, 0.0005), "{halves:?}");
    let refused = [
        ("evil.bin", "calls `__builtin__.eval`, which no dict of tensors needs; it was not run"),
        ("legacy.bin", "is no zip archive: PyTorch 1.6"),
        ("nested.bin", "has `x`, which is no tensor"),
        ("double.bin", "F64 is not read"),
    ];
    for (name, reason) in refused {
        let error = read(name).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("adapter_model.bin"), "{name}: {error}");
    }
    // Cut short anywhere; and safetensors come first where there are both.
    let whole = fs::read(data.join("views.bin")).unwrap();
    for len in 0..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        let error = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, PeftError::Malformed { file: named, .. } if *named == file));
    }
    write(folder.path(), &config().to_string(), GOOD);
    load(folder.path()).unwrap();
}
