//! Folders that other programs quantized, and our own exports, which are such folders: opened as they are
//! stored, or refused by the name of what is not read.

use std::path::{Path, PathBuf};

use lightglm::quantize::{ExportFormat, ExportOptions, QuantizeOptions, export, quantize};
use lightglm::{Error, LoadOptions, Model, Weights};
use lightglm_core::WeightDtype;
use lightglm_model::checkpoint::Checkpoint;

use crate::tiny_model;

fn open(model: &Path, weights: Weights) -> Result<Model, Error> {
    let kv_dtype = lightglm::KvDtype::F32;
    Model::open(model, LoadOptions { kv_dtype, weights, ..LoadOptions::default() })
}

fn score(model: &Model) -> f64 {
    model.score("The parcel", &[" is here"]).unwrap()[0]
}

#[test]
fn an_export_is_opened_as_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let base = tiny_model::folder(3);
    let checkpoint = Checkpoint::open(base.path()).unwrap();
    let formats = [
        ("int", ExportFormat::IntQuantized, 0.1),
        ("pack", ExportFormat::PackQuantized { group_size: 16, asymmetric: false }, 1e-3),
        ("zeros", ExportFormat::PackQuantized { group_size: 16, asymmetric: true }, 1e-3),
    ];
    for (name, format, tolerance) in formats {
        let to = folder.path().join(name);
        export(&checkpoint, &ExportOptions::new(format), &to).unwrap();
        let packed = open(&to, Weights::Stored).unwrap();
        assert!(packed.is_integer(), "{name}: {}", packed.scheme());
        let bytes = |weights: &Weights| packed.weight_bytes(weights).unwrap();
        assert!(bytes(&Weights::Stored) < bytes(&Weights::Dtype(WeightDtype::F32)), "{name}");
        // The same weights without the rounding of activations, and not those before the export.
        let dense = open(&to, Weights::Dtype(WeightDtype::F32)).unwrap();
        let (stored, exact) = (score(&packed), score(&dense));
        println!("{name}: {} {stored} {exact}", packed.scheme());
        assert!((stored / exact - 1.0).abs() < tolerance, "{name}: {stored} {exact}");
        assert_ne!(exact, score(&open(base.path(), Weights::Stored).unwrap()), "{name}");

        let error = open(&to, Weights::scheme("int8").unwrap()).unwrap_err();
        assert!(matches!(error, Error::AlreadyQuantized { .. }), "{error}");
        let exported = Checkpoint::open(&to).unwrap();
        let options = QuantizeOptions::from("int8".parse::<lightglm::Policy>().unwrap());
        let error = quantize(&exported, &options, &folder.path().join("again")).unwrap_err();
        assert!(matches!(error, Error::AlreadyQuantized { .. }), "{error}");
    }
}

/// Other programs read an export of a Llama's weights as the `glm` that they are written as.
#[test]
fn an_export_of_a_llama_says_what_it_is() {
    let base =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-model/tests/data/llama/qwen2");
    let checkpoint = Checkpoint::open(&base).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("export");
    export(&checkpoint, &ExportOptions::new(ExportFormat::IntQuantized), &to).unwrap();
    let exported = Checkpoint::open(&to).unwrap();
    assert!(checkpoint.is_translated() && !exported.is_translated());
    assert_eq!(exported.config(), checkpoint.config());
    assert_eq!(exported.adapter_layout(), checkpoint.adapter_layout());
    let text = std::fs::read_to_string(to.join("config.json")).unwrap();
    assert!(text.contains("GlmForCausalLM") && !text.contains("Qwen2"), "{text}");

    // There is no such model in GLM's layout.
    let qwen3 = Checkpoint::open(&base.with_file_name("qwen3")).unwrap();
    let options = ExportOptions::new(ExportFormat::IntQuantized);
    let error = export(&qwen3, &options, &folder.path().join("qwen3")).unwrap_err().to_string();
    assert!(error.contains("qwen3"), "{error}");
    assert!(!folder.path().join("qwen3").exists());
}

#[test]
fn what_others_quantized_is_opened_or_refused_by_name() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let models = shared.unwrap_or(beside).join("cases/models");
    if !models.is_dir() {
        println!("skipped: {} is not there", models.display());
        return;
    }
    let packed = open(&models.join("ct_pack-quantized"), Weights::Stored).unwrap();
    assert!(packed.is_integer() && score(&packed).is_finite());
    // Its scales are those of one group a row, where its configuration says groups of 64.
    let error = open(&models.join("awq"), Weights::Stored).unwrap_err().to_string();
    assert!(error.contains("down_proj.scales` has shape [1, 64], expected [2, 64]"), "{error}");
    let hqq = folder_with_config(&models.join("awq"), |text| text.replace("\"awq\"", "\"hqq\""));
    let error = open(hqq.path(), Weights::Stored).unwrap_err().to_string();
    assert!(error.contains("\"hqq\""), "{error}");
    for (name, reason) in [("fp8", "float-quantized"), ("bnb4", "bitsandbytes")] {
        for weights in [Weights::Stored, Weights::Dtype(WeightDtype::F32)] {
            let error = open(&models.join(name), weights).unwrap_err();
            assert!(matches!(error, Error::ForeignQuantization { .. }), "{name}: {error}");
            let error = error.to_string();
            assert!(error.contains(reason) && error.contains("config.json"), "{name}: {error}");
        }
    }
}

/// A copy of `model` with another config.json.
fn folder_with_config(model: &Path, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(model.join(name), folder.path().join(name)).unwrap();
    }
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), change(config)).unwrap();
    folder
}
