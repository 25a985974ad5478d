//! Model folders as people bring them: taken as they are meant, or told what is wrong in words that help.

use std::path::{Path, PathBuf};

use lightglm::{LoadOptions, Model};

/// What becomes of a folder.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Opened,
    /// The message says so.
    Refused(&'static str),
}
use Outcome::{Opened, Refused};

/// `shared/cases/models`.
const BROUGHT: [(&str, Outcome); 25] = [
    // Made with one group a row, where its configuration says groups of 64.
    ("awq", Refused("down_proj.scales` has shape [1, 64], expected [2, 64]")),
    ("bin_only", Refused("pytorch_model.bin: malformed safetensors: a pickle can run code")),
    ("bnb4", Refused("is \"bitsandbytes\"")),
    ("bom_config", Opened),
    // Weights that are read; a vocabulary of two tokens.
    ("chatglm_remote", Refused("tokenizer.model: tokens is not as expected")),
    ("config_nan", Opened),
    ("ct_pack-quantized", Opened),
    ("dynamic_ntk", Refused("`rope_scaling.type` is `dynamic`")),
    ("fp64", Refused("unsupported dtype F64")),
    ("fp8", Refused("is \"float-quantized\"")),
    ("gen_config_tp0", Opened),
    ("gen_config_vllm", Opened),
    ("glm4_tokenizer_model_only", Refused("no token for 255 of the 256 bytes")),
    ("hf_llama", Opened),
    ("hf_qwen2", Opened),
    ("lfs_pointer", Refused("git lfs pull")),
    ("missing_shard", Refused("model-00002-of-00002.safetensors: No such file")),
    ("no_lm_head", Refused("tensor `lm_head.weight` is missing")),
    ("padneg", Opened),
    ("prefix_lm", Refused("there is `language_model.model.embed_tokens.weight`")),
    ("tied", Opened),
    ("truncated", Refused("model.safetensors: malformed safetensors")),
    ("vocab_resized", Refused("`model.embed_tokens.weight` has shape [320, 64]")),
    ("yarn_maxpos", Opened),
    ("yarn_type", Opened),
];

fn cases() -> Option<PathBuf> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let models = shared.unwrap_or(beside).join("cases/models");
    if !models.is_dir() {
        println!("skipped: {} is not there", models.display());
        return None;
    }
    Some(models)
}

#[test]
fn folders_are_opened_or_refused_in_words_that_help() {
    let Some(models) = cases() else { return };
    for folder in std::fs::read_dir(&models).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(
            BROUGHT.iter().any(|(brought, _)| name == *brought),
            "{name:?} is not in the table"
        );
    }
    for (name, outcome) in BROUGHT {
        match (Model::open(models.join(name), LoadOptions::default()), outcome) {
            (Ok(model), Opened) => {
                let score = model.score("The parcel", &[" is here"]).unwrap()[0];
                assert!(score.is_finite(), "{name}");
            }
            (Err(error), Refused(reason)) => {
                let error = error.to_string();
                assert!(error.contains(reason), "{name}: {error}");
            }
            (Ok(_), outcome) => panic!("{name} was opened, where it is {outcome:?}"),
            (Err(error), outcome) => panic!("{name}: {error}, where it is {outcome:?}"),
        }
    }
}

/// The stretched context is what conversations may have.
#[test]
fn yarn_counts() {
    let Some(models) = cases() else { return };
    let options = LoadOptions { max_context: Some(1 << 20), ..LoadOptions::default() };
    let model = Model::open(models.join("yarn_type"), options).unwrap();
    assert_eq!(model.config().max_position_embeddings, 512);
    assert_eq!(model.max_context(), 2048);
}
