//! GGUF files as people bring them: run as they are meant, or told by name what is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lightglm::{LoadOptions, Model};

/// What becomes of a file.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Opened,
    /// The message says so.
    Refused(&'static str),
}
use Outcome::{Opened, Refused};

/// `shared/cases/gguf` and `shared/cases/gguf2`.
const BROUGHT: [(&str, Outcome); 15] = [
    ("glm4-IQ4_NL.gguf", Opened),
    // Its rows are of 256, whatever its metadata say.
    ("glm4-IQ4_XS.gguf", Refused("down_proj.weight` has shape [64, 256]")),
    ("glm4-MXFP4.gguf", Refused("MXFP4")),
    ("glm4-Q8_1.gguf", Refused("Q8_1")),
    ("glm4-Q8_K.gguf", Refused("Q8_K")),
    ("glm4-TQ1_0.gguf", Refused("TQ1_0")),
    ("glm4-chatglmbpe.gguf", Opened),
    ("glm4-nopre.gguf", Opened),
    ("glm4-yarn.gguf", Opened),
    ("glm4.gguf", Opened),
    ("llama-base-no-template.gguf", Opened),
    // A vocabulary of GPT-2's, under the name of SentencePiece's.
    ("llama2-spm.gguf", Refused("tokenizer.ggml.scores")),
    ("llama3-ropefreqs.gguf", Opened),
    ("llama3.gguf", Opened),
    ("qwen2.gguf", Opened),
];

#[test]
fn files_are_run_or_refused_by_name() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let cases = shared.unwrap_or(beside).join("cases");
    let mut found = BTreeSet::new();
    for folder in ["gguf", "gguf2"] {
        let folder = cases.join(folder);
        let Ok(files) = std::fs::read_dir(&folder) else {
            println!("skipped: {} is not there", folder.display());
            return;
        };
        found.extend(files.map(|file| file.unwrap().path()));
    }
    let mut wrong = Vec::new();
    for path in &found {
        let name = path.file_name().unwrap().to_string_lossy();
        let Some((_, outcome)) = BROUGHT.iter().find(|(brought, _)| *brought == name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        match (Model::open(path, LoadOptions::default()), outcome) {
            (Ok(model), Opened) => {
                let score = model.score("The parcel", &[" is here"]).unwrap()[0];
                assert!(score.is_finite(), "{name}");
            }
            (Err(error), Refused(reason)) if error.to_string().contains(reason) => {}
            (Ok(_), outcome) => wrong.push(format!("{name} was opened, where it is {outcome:?}")),
            (Err(error), outcome) => wrong.push(format!("{name}: {error}; it is {outcome:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(found.len(), BROUGHT.len(), "a file is missing");
}
