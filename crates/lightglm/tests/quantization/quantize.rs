//! Quantized folders: written, opened again, refused.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use lightglm::checkpoint::{self, Checkpoint, Summary};
use lightglm::evaluate::TextOptions;
use lightglm::quantize::{
    CalibratedMethod, Codes, ExportFormat, ExportOptions, QuantizeOptions, export, quantize,
    write_dequantized,
};
use lightglm::{
    Error, LoadOptions, Model, ModelFolder, Policy, Progress, ProgressSink, Prompt, Request,
    Weights, checkpoint::open,
};

const TOKENS: [u32; 6] = [3, 1, 4, 1, 5, 9];

fn open_dense(folder: &Path) -> Checkpoint {
    open(folder, &ProgressSink::default()).unwrap()
}

fn policy(rules: &str) -> Policy {
    rules.parse().unwrap()
}

fn options(rules: &str) -> QuantizeOptions {
    policy(rules).into()
}

fn reply(model: &Model) -> Vec<u32> {
    let prompt = Prompt::Tokens(TOKENS.to_vec());
    let request = Request { prompt, sampling: Some(crate::tiny_model::greedy(24)) };
    model.complete(request).unwrap().token_ids
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Breaks off at the first report that `at` is true for.
fn breaking(at: impl Fn(&Progress) -> bool + Send + Sync + 'static) -> ProgressSink {
    ProgressSink::new(move |progress| match at(&progress) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
}

#[test]
fn a_quantized_folder_answers_as_the_model_quantized_while_loading() {
    let dense = crate::tiny_model::folder(7);
    let checkpoint = open_dense(dense.path());
    for rules in ["int8", "lm_head=int8,*=int4wo-g32"] {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("new/folder");
        let report = quantize(&checkpoint, &options(rules), &folder).unwrap();
        assert!(report.after.bytes < report.before.bytes / 2, "{report:?}");
        assert_eq!(report.after.weights, report.before.weights);
        let matrices: usize = report.schemes.iter().map(|(_, count)| count).sum();
        assert_eq!(matrices, lightglm::generic::matrices(checkpoint.config()).len());
        assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);

        let opened = Model::open(&folder, LoadOptions::default()).unwrap();
        let weights = Weights::policy(rules).unwrap();
        let loading = LoadOptions { weights, ..LoadOptions::default() };
        let in_memory = Model::open(dense.path(), loading).unwrap();
        assert_eq!(opened.scheme(), in_memory.scheme());
        assert_eq!(reply(&opened), reply(&in_memory), "{rules}");

        let summary = Summary::of(opened.checkpoint()).unwrap().quantized.unwrap();
        assert_eq!(summary.policy, policy(rules).to_string());
        assert_eq!(summary.weight_bytes, report.after.bytes);
        assert!(Summary::of(&checkpoint).unwrap().quantized.is_none());
    }
}

#[test]
fn codes_chosen_on_a_text_are_nearer_to_the_original() {
    let dense = crate::tiny_model::folder(8);
    let original = Model::open(dense.path(), LoadOptions::default()).unwrap();
    let text = "What is a card? When does the card arrive? ".repeat(20);
    let tokens = original.text().tokenizer.encode_text(&text).unwrap();
    let divergence = |codes| {
        let out = tempfile::tempdir().unwrap();
        original.quantize(out.path(), &QuantizeOptions { codes, ..options("int4wo-g32") }).unwrap();
        let quantized = Model::open(out.path(), LoadOptions::default()).unwrap();
        let read = TextOptions { max_tokens: Some(128), ..TextOptions::default() };
        quantized.kl_divergence(&original, &text, &read).unwrap().mean
    };
    let nearest = divergence(Codes::Nearest);
    for method in CalibratedMethod::ALL {
        let chosen = divergence(Codes::Calibrated { method, tokens: tokens.clone() });
        // Random weights have no outliers to clip: there it may only not do harm.
        let bound = if method == CalibratedMethod::Clip { 1.05 * nearest } else { nearest };
        assert!(chosen < bound && chosen != nearest, "{}: {chosen}, {nearest}", method.name());
    }
}

#[test]
fn what_cannot_be_quantized_is_refused_before_anything_is_written() {
    let dense = crate::tiny_model::folder(9);
    let (checkpoint, out) = (open_dense(dense.path()), tempfile::tempdir().unwrap());
    let folder = out.path().join("folder");
    let refused = |options: &QuantizeOptions| {
        let error = quantize(&checkpoint, options, &folder).unwrap_err();
        assert!(!folder.exists(), "{error}");
        error
    };
    let error = refused(&options("*.donw_proj=int8,*=int4"));
    assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("donw_proj"));
    let codes = Codes::Calibrated { method: CalibratedMethod::Gptq, tokens: Vec::new() };
    let error = refused(&QuantizeOptions { codes, ..options("int4") });
    assert!(matches!(error, Error::Calibration(_)), "{error}");

    // Not its own folder, whatever is allowed, and no other that holds something.
    let allowed = QuantizeOptions { overwrite: true, ..options("int8") };
    let error = quantize(&checkpoint, &allowed, dense.path()).unwrap_err();
    assert!(matches!(&error, Error::FolderIsModel { folder } if folder == dense.path()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let error = quantize(&checkpoint, &options("int8"), &folder).unwrap_err();
    assert!(matches!(&error, Error::FolderNotEmpty { folder: named } if *named == folder));
    assert_eq!(names(&folder), ["notes.txt"]);

    // Not twice, and not below a file.
    quantize(&checkpoint, &allowed, &folder).unwrap();
    let packed = open_dense(&folder);
    let other = out.path().join("other");
    let error = quantize(&packed, &options("int8"), &other).unwrap_err();
    assert!(matches!(&error, Error::AlreadyQuantized { file } if *file == folder));
    let error = quantize(&checkpoint, &options("int8"), &folder.join("notes.txt/x")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

#[test]
fn work_that_is_broken_off_leaves_nothing() {
    let dense = crate::tiny_model::folder(10);
    let (checkpoint, out) = (open_dense(dense.path()), tempfile::tempdir().unwrap());
    let folder = out.path().join("folder");
    let halfway =
        || breaking(|at| matches!(at, Progress::Quantizing { done, total } if 2 * done > *total));
    let broken = QuantizeOptions { progress: halfway(), ..options("int8") };
    let error = quantize(&checkpoint, &broken, &folder).unwrap_err();
    assert!(matches!(error, Error::Interrupted { doing: "quantizing" }), "{error}");
    assert!(!folder.exists());

    let codes = Codes::Calibrated { method: CalibratedMethod::Clip, tokens: vec![5; 64] };
    let progress = breaking(|at| matches!(at, Progress::Working { done: 3, .. }));
    let broken = QuantizeOptions { codes, progress, ..options("int4") };
    let error = quantize(&checkpoint, &broken, &folder).unwrap_err();
    assert!(matches!(error, Error::Interrupted { doing: "calibrating" }), "{error}");
    assert!(!folder.exists());

    // A model that was there is still there, and still itself.
    quantize(&checkpoint, &options("int8"), &folder).unwrap();
    let before = reply(&Model::open(&folder, LoadOptions::default()).unwrap());
    let listed = names(&folder);
    let broken = QuantizeOptions { overwrite: true, progress: halfway(), ..options("int4") };
    quantize(&checkpoint, &broken, &folder).unwrap_err();
    assert_eq!(names(&folder), listed);
    assert_eq!(reply(&Model::open(&folder, LoadOptions::default()).unwrap()), before);
}

#[test]
fn a_model_folder_without_weights_is_not_finished() {
    let dense = crate::tiny_model::folder(11);
    let (checkpoint, out) = (open_dense(dense.path()), tempfile::tempdir().unwrap());
    let folder = out.path().join("folder");
    let begun = ModelFolder::begin(&folder, &checkpoint, None).unwrap();
    let weights = begun.weights();
    let error = begun.finish().unwrap_err();
    assert!(matches!(&error, Error::Io { file, .. } if *file == weights), "{error}");
    assert!(!folder.exists());
}

#[test]
fn exports_are_read_back_and_broken_off_ones_leave_no_weights() {
    let dense = crate::tiny_model::folder(12);
    let (checkpoint, out) = (open_dense(dense.path()), tempfile::tempdir().unwrap());
    let folder = out.path().join("export");
    let packed =
        ExportOptions::new(ExportFormat::PackQuantized { group_size: 16, asymmetric: true });
    let progress = breaking(|at| matches!(at, Progress::Working { done: 2, .. }));
    let broken = ExportOptions { progress, ..packed.clone() };
    let error = export(&checkpoint, &broken, &folder).unwrap_err();
    assert!(matches!(error, Error::Interrupted { doing: "exporting" }), "{error}");
    assert!(!folder.exists() || names(&folder).is_empty(), "{:?}", names(&folder));

    let report = export(&checkpoint, &packed, &folder).unwrap();
    assert_eq!(report.format, "pack-quantized");
    assert_eq!(report.quantized_layers, 6 * checkpoint.config().num_hidden_layers);
    assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);
    let file = out.path().join("dense.safetensors");
    write_dequantized(&folder, &file).unwrap();
    assert!(fs::metadata(&file).unwrap().len() > report.bytes);

    let error = export(&checkpoint, &packed, &folder).unwrap_err();
    assert!(matches!(error, Error::FolderNotEmpty { .. }), "{error}");
    let error = write_dequantized(dense.path(), &file).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
    let error = checkpoint::open(out.path().join("nowhere"), &ProgressSink::default());
    assert!(error.is_err());
}
