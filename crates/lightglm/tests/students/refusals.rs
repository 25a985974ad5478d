//! What cannot be is told before anything is written.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::prune::{
    CutOptions, KeepTokens, PruneError, PruneOptions, Slice, StudentError, Wanted, cut, prune,
    shape_of,
};
use lightglm::quantize::{QuantizeOptions, quantize};
use lightglm::{Error, Policy, ProgressSink};
use lightglm_core::WeightError;
use lightglm_model::config::ModelType;
use serde_json::{Value, json};

use super::fixture::{TOKENS, change, open, teacher};
use super::tiny_model;

fn with(wanted: Wanted) -> PruneOptions {
    PruneOptions { wanted, calibration: TOKENS.to_vec(), ..PruneOptions::default() }
}

/// The error of a student of `folder` that is not to be there afterwards.
fn refused(folder: &Path, options: &PruneOptions) -> Error {
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    let error = prune(&open(folder), options, &student).unwrap_err();
    assert!(!student.exists(), "{error}");
    error
}

#[test]
fn sizes_that_there_are_not() {
    let folder = teacher(ModelType::Glm4, 1);
    let layers = |count| Wanted { num_hidden_layers: Some(count), ..Wanted::default() };
    for wanted in [layers(4), layers(0)] {
        let error = refused(folder.path(), &with(wanted));
        let what = "num_hidden_layers";
        assert!(
            matches!(error, Error::Student(StudentError::Count { what: w, available: 3, .. }) if w == what),
            "{error}"
        );
    }
    let ffn = Wanted { intermediate_size: Some(113), ..Wanted::default() };
    let hidden = Wanted { hidden_size: Some(65), ..Wanted::default() };
    let heads = |heads, groups| Wanted {
        num_attention_heads: Some(heads),
        num_key_value_heads: groups,
        ..Wanted::default()
    };
    for wanted in [ffn, hidden, heads(5, None), heads(4, Some(3))] {
        let error = refused(folder.path(), &with(wanted));
        assert!(matches!(error, Error::Student(StudentError::Count { .. })), "{error}");
    }
    for wanted in [heads(3, None), heads(4, Some(1)), heads(1, None)] {
        let error = refused(folder.path(), &with(wanted));
        assert!(matches!(error, Error::Student(StudentError::HeadGroups { .. })), "{error}");
    }
}

#[test]
fn no_text_where_one_decides() {
    let folder = teacher(ModelType::Glm, 1);
    let wanted = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
    let error = refused(folder.path(), &PruneOptions { calibration: Vec::new(), ..with(wanted) });
    assert!(matches!(error, Error::Student(StudentError::NothingMeasured)), "{error}");
    let error = refused(folder.path(), &PruneOptions { context: 0, ..with(wanted) });
    assert!(matches!(error, Error::Option { option: "context", .. }), "{error}");
    let error = refused(folder.path(), &PruneOptions { calibration: vec![320], ..with(wanted) });
    assert!(matches!(error, Error::Model(_)), "{error}");
}

#[test]
fn a_quantized_teacher() {
    let folder = tiny_model::folder(1);
    let packed = tempfile::tempdir().unwrap();
    let options = QuantizeOptions {
        policy: Policy::uniform("int8wo".parse().unwrap()),
        ..QuantizeOptions::default()
    };
    quantize(&open(folder.path()), &options, packed.path()).unwrap();
    let error = refused(packed.path(), &PruneOptions::default());
    assert!(matches!(error, Error::Prune(PruneError::Quantized { .. })), "{error}");
}

#[test]
fn another_kind_of_tokenizer() {
    let folder = tiny_model::folder(2);
    let file = folder.path().join("tokenizer.json");
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let vocabulary = Some(KeepTokens::default());
    let options = PruneOptions { vocabulary, ..PruneOptions::default() };
    let changes: [(&str, Value, &str); 4] = [
        ("/model/type", json!("Unigram"), "model.type"),
        ("/model/byte_fallback", json!(true), "model.byte_fallback"),
        ("/decoder/type", json!("Metaspace"), "decoder"),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), "pre_tokenizer"),
    ];
    for (place, value, expected) in changes {
        let mut json = whole.clone();
        *json.pointer_mut(place).unwrap() = value;
        fs::write(&file, json.to_string()).unwrap();
        let error = refused(folder.path(), &options);
        assert!(
            matches!(error, Error::Prune(PruneError::Tokenizer { field, .. }) if field == expected),
            "{place}: {error}"
        );
    }
    let mut json = whole.clone();
    json["model"]["merges"][3] = json!(["q", "nowhere"]);
    fs::write(&file, json.to_string()).unwrap();
    refused(folder.path(), &options);
    fs::write(&file, "[]").unwrap();
    refused(folder.path(), &options);
    fs::remove_file(&file).unwrap();
    let error = refused(folder.path(), &options);
    assert!(matches!(error, Error::Checkpoint(_)), "{error}");
}

#[test]
fn tokens_that_there_are_not_or_that_are_needed() {
    let folder = tiny_model::folder(3);
    let vocabulary = Some(KeepTokens { texts: Vec::new(), ids: vec![320] });
    let error = refused(folder.path(), &PruneOptions { vocabulary, ..PruneOptions::default() });
    assert!(matches!(error, Error::Prune(PruneError::NoSuchToken { id: 320, .. })), "{error}");
    let checkpoint = open(folder.path());
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    for gone in [302, 304] {
        // 302 ends replies, 304 is added.
        let mut slice = Slice::whole(&shape_of(checkpoint.config()));
        slice.vocabulary.retain(|&id| id != gone);
        let error = cut(&checkpoint, &slice, &CutOptions::default(), &student).unwrap_err();
        let needed = matches!(
            error,
            Error::Prune(PruneError::TokenNotKept { id, .. }) if id as usize == gone
        );
        assert!(needed && !student.exists(), "{error}");
    }
}

#[test]
fn slices_that_are_none() {
    let folder = teacher(ModelType::Glm4, 4);
    let checkpoint = open(folder.path());
    let whole = Slice::whole(&shape_of(checkpoint.config()));
    let uneven = |change: fn(&mut Slice)| {
        let mut slice = whole.clone();
        change(&mut slice);
        slice
    };
    let slices = [
        uneven(|slice| slice.layers = vec![0, 3, 1]),
        uneven(|slice| slice.layers.clear()),
        uneven(|slice| slice.hidden.swap(0, 1)),
        uneven(|slice| slice.hidden.push(64)),
        uneven(|slice| slice.ffn[1].truncate(111)),
        uneven(|slice| slice.ffn.truncate(2)),
        uneven(|slice| slice.heads[0].truncate(3)),
        uneven(|slice| slice.heads[1] = vec![0, 1]),
        uneven(|slice| slice.heads = vec![vec![0, 1, 2]; 3]),
        uneven(|slice| slice.vocabulary = vec![1, 1]),
    ];
    let out = tempfile::tempdir().unwrap();
    let student = out.path().join("student");
    for slice in slices {
        let error = cut(&checkpoint, &slice, &CutOptions::default(), &student).unwrap_err();
        assert!(matches!(error, Error::Student(_)), "{error}");
        assert!(!student.exists(), "{error}");
    }
}

#[test]
fn tensors_of_another_model_and_activations_that_are_none() {
    let folder = teacher(ModelType::Glm4, 5);
    change(folder.path(), |name, _, values| {
        if name == "model.layers.1.mlp.down_proj.weight" {
            values[0] = f32::NAN;
        }
    });
    let wanted = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
    let error = refused(folder.path(), &with(wanted));
    assert!(matches!(error, Error::Student(StudentError::NotFinite { .. })), "{error}");
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"intermediate_size\": 112", "\"intermediate_size\": 96"))
        .unwrap();
    let error = refused(folder.path(), &PruneOptions::default());
    assert!(matches!(error, Error::Weights(WeightError::ShapeMismatch { .. })), "{error}");
}

/// Broken off, and folders that hold something.
#[test]
fn folders_stay_as_they_were() {
    let folder = teacher(ModelType::Glm, 6);
    for stop_at in ["measuring importance", "writing"] {
        let progress = ProgressSink::new(move |progress| match progress {
            lightglm::Progress::Working { doing, done, .. } if doing == stop_at && done > 0 => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        let wanted = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
        let error = refused(folder.path(), &PruneOptions { progress, ..with(wanted) });
        assert!(matches!(error, Error::Interrupted { doing } if doing == stop_at), "{error}");
    }
    let full = tempfile::tempdir().unwrap();
    fs::write(full.path().join("notes"), "mine").unwrap();
    let checkpoint = open(folder.path());
    let error = prune(&checkpoint, &PruneOptions::default(), full.path()).unwrap_err();
    assert!(matches!(error, Error::FolderNotEmpty { .. }), "{error}");
    let overwrite = PruneOptions { overwrite: true, ..PruneOptions::default() };
    let error = prune(&checkpoint, &overwrite, folder.path()).unwrap_err();
    assert!(matches!(error, Error::FolderIsModel { .. }), "{error}");
    prune(&checkpoint, &overwrite, full.path()).unwrap();
    assert!(full.path().join("notes").exists());
}
