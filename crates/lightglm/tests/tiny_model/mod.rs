//! A model folder small enough for tests: random weights, GLM's tokenizer in a small form, its template.

use std::ops::ControlFlow;
use std::path::Path;

use lightglm::{LoadOptions, Model, SamplingParams, WeightDtype};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;
use tempfile::TempDir;

/// `<|endoftext|>`, `<|user|>` and `<|observation|>` of the small tokenizer.
const ENDS: [u32; 3] = [302, 309, 311];

/// Writes the model into a new folder.
pub(crate) fn folder(seed: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = GlmConfig {
        eos_token_ids: ENDS.to_vec(),
        max_position_embeddings: 2048,
        ..GlmConfig::tiny()
    };
    let progress = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), &config, WeightDtype::F32, seed, None, progress)
        .unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lightglm-text/tests/data/text/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    folder
}

/// Opens it.
pub(crate) fn open(folder: &TempDir, options: LoadOptions) -> Model {
    Model::open(folder.path(), options).unwrap()
}

/// A few tokens, always the likeliest.
pub(crate) fn greedy(max_tokens: usize) -> SamplingParams {
    SamplingParams { temperature: 0.0, max_tokens, ignore_eos: true, ..SamplingParams::default() }
}
