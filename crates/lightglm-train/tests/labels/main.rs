//! Conversations as token ids: what is learnt of them.

mod against_transformers;
mod rows;
mod turns;

use std::path::{Path, PathBuf};

use lightglm_text::{ChatTemplate, GgufVocabulary, ModelText, Tokenizer};
use serde_json::Value;

fn text_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lightglm-text/tests/data/text").join(name)
}

/// A GLM with this template.
fn glm(template: ChatTemplate) -> ModelText {
    let tokenizer = Tokenizer::from_file(text_data("tokenizer.json")).unwrap();
    let ends = ["<|endoftext|>", "<|user|>", "<|observation|>"];
    let eos_token_ids = ends.map(|end| tokenizer.token_to_id(end).unwrap()).to_vec();
    ModelText { tokenizer, template, eos_token_ids }
}

fn glm4_0414() -> ModelText {
    glm(ChatTemplate::glm4_0414())
}

fn glm4_2024() -> ModelText {
    let source = std::fs::read_to_string(text_data("glm-4-9b-chat-hf.chat_template.jinja"));
    glm(ChatTemplate::from_source(source.unwrap()).unwrap())
}

/// SmolLM2 with the tokens that some texts need.
fn smollm2() -> ModelText {
    let bytes = std::fs::read(text_data("smollm2_reduced.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    let mut take = |field: &str| file[field].take();
    let eos_token_id: u32 = serde_json::from_value(take("eos_token_id")).unwrap();
    let vocabulary = GgufVocabulary {
        model: serde_json::from_value(take("model")).unwrap(),
        pre: serde_json::from_value(take("pre")).unwrap(),
        tokens: serde_json::from_value(take("tokens")).unwrap(),
        token_types: serde_json::from_value(take("token_type")).unwrap(),
        merges: serde_json::from_value(take("merges")).unwrap(),
        bos_token_id: serde_json::from_value(take("bos_token_id")).unwrap(),
        eos_token_ids: vec![eos_token_id],
        chat_template: serde_json::from_value(take("chat_template")).unwrap(),
        ..GgufVocabulary::default()
    };
    ModelText {
        tokenizer: Tokenizer::from_gguf(&vocabulary).unwrap(),
        template: ChatTemplate::from_gguf(&vocabulary).unwrap(),
        eos_token_ids: vec![eos_token_id],
    }
}
