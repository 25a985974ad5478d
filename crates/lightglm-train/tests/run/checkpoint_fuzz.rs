//! Files of checkpoints and of PEFT adapters, mutated: typed errors, no panic, no memory that a shape
//! made up. See docs/contributing.md, "Fuzzing".

use std::fs;
use std::path::{Path, PathBuf};

use crate::bigrams::{VOCAB, config, corpus, model, run};
use lightglm_core::ProjectionLayout;
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::AdamWConfig;
use lightglm_train::peft::load_adapter;
use lightglm_train::trainer::Trainer;

/// Address space that one run may grow by: far above what these inputs can ask for with reason.
const MEMORY_GROWTH: u64 = 8 << 30;

const TOKENS: [&str; 22] = [
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "18446744073709551615",
    "4294967296",
    "[]",
    "{}",
    "\"\"",
    "\\ud800",
    "\"F32\"",
    "\"BF16\"",
    "\"shape\":[5,5]",
    "\"data_offsets\":[0,100]",
    "\"table\"",
    "\"table.exp_avg\"",
    "\"version\": 1",
    "base_model.model.q_proj.lora_A.weight",
    "base_model.model.q_proj.lora_B.weight",
    "\"r\": 2",
    "\"rank_pattern\": {\"q\": 1}",
];

/// Writes each input to `file` and hands it on.
fn fuzz(name: &str, file: &Path, mut target: impl FnMut() -> Result<(), String>) {
    let mut fuzzer = Fuzzer::new(name);
    fuzzer.seeds = vec![fs::read(file).unwrap()];
    fuzzer.dictionary = TOKENS.iter().map(|token| token.as_bytes().to_vec()).collect();
    fuzzer.max_memory_growth = Some(MEMORY_GROWTH);
    fuzzer.max_len = 4 << 10;
    if std::env::var_os("LIGHTGLM_FUZZ_EXECS").is_none() {
        // Each writes a file.
        fuzzer.max_executions = 2_000;
    }
    target().expect("the seed is fine");
    let named = file.file_name().unwrap().to_str().unwrap();
    let report = fuzzer.run(|input| {
        fs::write(file, input).unwrap();
        match target() {
            Ok(()) => 0,
            Err(message) => {
                assert!(message.contains(named), "`{message}` does not name {named}");
                // Without the numbers: else each offset is something new.
                let kind: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
                fingerprint(&format_args!("{kind}"))
            }
        }
    });
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.outcomes > 1, "the mutations of {name} all looked alike: {report:?}");
    println!("{name}: {report:?}");
}

fn checkpoint(name: &str, file: &str) {
    let parent = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(parent.path(), 1).unwrap();
    let config = config();
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&folder, false);
    run(&trainer, model(1), &corpus(), Some(3)).unwrap();
    fuzz(name, &folder.of_step(3).join(file), || {
        let loaded = folder.load(3, model(2), AdamWConfig::default());
        loaded.map(|(_, _, state)| assert_eq!(state.step, 3)).map_err(|error| error.to_string())
    });
}

#[test]
fn run_state() {
    checkpoint("train_run_state", "run.json");
}

#[test]
fn parameters() {
    checkpoint("train_parameters", "parameters.safetensors");
}

#[test]
fn moments() {
    checkpoint("train_moments", "optimizer.safetensors");
}

/// An adapter of rank 2 beside `q_proj: [3, 5]`.
fn adapter(folder: &Path) -> [PathBuf; 2] {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.1,
"target_modules": ["q_proj"], "bias": "none", "use_dora": false, "rank_pattern": {}}"#;
    let header = r#"{"base_model.model.q_proj.lora_A.weight":{"dtype":"F32","shape":[2,5],
"data_offsets":[0,40]},"base_model.model.q_proj.lora_B.weight":{"dtype":"BF16","shape":[3,2],
"data_offsets":[40,52]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + 52, 0x3c);
    let files = [folder.join("adapter_config.json"), folder.join("adapter_model.safetensors")];
    fs::write(&files[0], config).unwrap();
    fs::write(&files[1], bytes).unwrap();
    files
}

fn peft(name: &str, which: usize) {
    let folder = tempfile::tempdir().unwrap();
    let files = adapter(folder.path());
    let shape = |name: &str| (name == "q_proj").then_some([3, VOCAB]);
    fuzz(name, &files[which], || {
        match load_adapter(folder.path(), "default", &shape, ProjectionLayout::Glm) {
            Ok(lora) => {
                lora.config().check().expect("what is loaded is possible");
                Ok(())
            }
            // A configuration of another rank is told as the matrices' fault, so both are named.
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("adapter_"), "`{message}` names no file");
                Err(format!("{message} {}", files[which].display()))
            }
        }
    });
}

#[test]
fn adapter_configuration() {
    peft("train_adapter_config", 0);
}

#[test]
fn adapter_matrices() {
    peft("train_adapter_model", 1);
}
