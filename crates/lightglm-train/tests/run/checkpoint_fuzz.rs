//! Files of checkpoints and of PEFT adapters, mutated: typed errors, no panic, no memory that a shape
//! made up. See docs/contributing.md, "Fuzzing".

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use crate::bigrams::{VOCAB, config, corpus, model, run};
use lightglm_core::ProjectionLayout;
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::AdamWConfig;
use lightglm_train::peft::load_adapter;
use lightglm_train::trainer::Trainer;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Address space that one run may grow by: far above what these inputs can ask for with reason.
const MEMORY_GROWTH: u64 = 8 << 30;

const TOKENS: [&str; 28] = [
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
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nBFloat16Storage\n",
    "ccollections\nOrderedDict\n)R",
    "X\u{1}\0\0\0a",
    "data/0",
    "PK\u{1}\u{2}",
    "\"rank_pattern\": {\"q\": 1}",
];

/// Writes each input to `file` and hands it on.
fn fuzz(name: &str, file: &Path, target: impl FnMut() -> Result<(), String>) {
    fuzz_as(name, file, fs::read(file).unwrap(), |input| input.to_vec(), target);
}

/// Writes what `file_of` makes of each input to `file`.
fn fuzz_as(
    name: &str,
    file: &Path,
    seed: Vec<u8>,
    file_of: impl Fn(&[u8]) -> Vec<u8>,
    mut target: impl FnMut() -> Result<(), String>,
) {
    let mut fuzzer = Fuzzer::new(name);
    fs::write(file, file_of(&seed)).unwrap();
    fuzzer.seeds = vec![seed];
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
        fs::write(file, file_of(input)).unwrap();
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
    peft_of(name, folder.path(), &files[which]);
}

fn peft_of(name: &str, folder: &Path, file: &Path) {
    fuzz(name, file, || load_from(folder, file));
}

fn load_from(folder: &Path, file: &Path) -> Result<(), String> {
    let is_q = |name: &str| ["q_proj", "model.layers.0.self_attn.q_proj"].contains(&name);
    let shape = |name: &str| is_q(name).then_some([3, VOCAB]);
    match load_adapter(folder, "default", &shape, ProjectionLayout::Glm) {
        Ok(lora) => {
            lora.config().check().expect("what is loaded is possible");
            Ok(())
        }
        // A configuration of another rank is told as the matrices' fault, so both are named.
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("adapter_"), "`{message}` names no file");
            Err(format!("{message} {}", file.display()))
        }
    }
}

#[test]
fn adapter_configuration() {
    peft("train_adapter_config", 0);
}

#[test]
fn adapter_matrices() {
    peft("train_adapter_model", 1);
}

/// What `torch.save` wrote; and its pickle in an archive whose checksums are right, which a byte that is another
/// would fail.
#[test]
fn adapter_pickle() {
    let folder = tempfile::tempdir().unwrap();
    let [_, safetensors] = adapter(folder.path());
    fs::remove_file(safetensors).unwrap();
    let file = folder.path().join("adapter_model.bin");
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch_save/views.bin");
    fs::copy(&saved, &file).unwrap();
    peft_of("train_adapter_archive", folder.path(), &file);

    let member = |name: &str| {
        let mut archive = ZipArchive::new(fs::File::open(&saved).unwrap()).unwrap();
        let mut bytes = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let storage = member("views/data/0");
    let archive = |pickle: &[u8]| {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in [("data.pkl", pickle), ("data/0", &storage)] {
            archive.start_file(name, stored).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let load = || load_from(folder.path(), &file);
    fuzz_as("train_adapter_pickle", &file, member("views/data.pkl"), archive, load);
}
