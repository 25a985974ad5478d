//! A model with random weights on disk, and rows to teach it.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm::WeightDtype;
use lightglm::training::{ExampleSet, ReadOptions, read_examples};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;

/// `<|endoftext|>`, `<|user|>` and `<|observation|>` of the small tokenizer.
const ENDS: [u32; 3] = [302, 309, 311];

/// Writes a tiny model to `folder`, with a tokenizer; the chat template is the built-in one.
pub(crate) fn write_model(folder: &Path, tied: bool) -> PathBuf {
    write_seeded(folder, "base", GlmConfig { tie_word_embeddings: tied, ..GlmConfig::tiny() }, 11)
}

/// Writes a model of `config` and its weights' seed to the folder `name` in `folder`.
pub(crate) fn write_seeded(folder: &Path, name: &str, config: GlmConfig, seed: u64) -> PathBuf {
    let config = GlmConfig { eos_token_ids: ENDS.to_vec(), ..config };
    let model = folder.join(name);
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(&model, &config, WeightDtype::F32, seed, None, go_on).unwrap();
    let text = "../lightglm-text/tests/data/text/tokenizer.json";
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join(text);
    fs::copy(tokenizer, model.join("tokenizer.json")).unwrap();
    model
}

/// Twenty questions and answers.
pub(crate) fn rows(folder: &Path) -> ExampleSet {
    let row = |i: usize| {
        let question = format!("Where is parcel {i}?");
        let answer = if i.is_multiple_of(2) { "on its way" } else { "in the shop" };
        let turns = serde_json::json!({"messages": [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer},
        ]});
        format!("{turns}\n")
    };
    let file = folder.join("rows.jsonl");
    fs::write(&file, (0..20).map(row).collect::<String>()).unwrap();
    read_examples(&file, &ReadOptions::default()).unwrap()
}
