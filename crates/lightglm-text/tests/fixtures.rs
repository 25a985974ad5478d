//! Tokenizer and chat template against the reference implementation.
//!
//! The data is Hugging Face transformers 5.23.0's: texts with their ids, messages with what
//! `apply_chat_template` makes of them.

use std::path::{Path, PathBuf};

use lightglm_text::{ChatTemplate, Message, TextError, Tokenizer};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(data("tokenizer.json")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn texts_have_the_ids_of_the_reference() {
    let tokenizer = tokenizer();
    let expected = json("tokenizer_expected.json");
    assert_eq!(tokenizer.vocab_size() as u64, expected["vocab_size"].as_u64().unwrap());
    for (token, id) in expected["specials"].as_object().unwrap() {
        let id = u32::try_from(id.as_u64().unwrap()).unwrap();
        assert_eq!(tokenizer.token_to_id(token), Some(id));
        assert_eq!(tokenizer.id_to_token(id), Some(token.as_str()));
        assert!(tokenizer.is_special(id));
        assert_eq!(tokenizer.decode(&[id], false), *token);
        assert_eq!(tokenizer.decode(&[id], true), "");
    }
    assert_eq!(tokenizer.special_token_ids(), (302..320).collect::<Vec<u32>>());
    assert!(tokenizer.covers_every_byte());
    for case in expected["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let encoded = tokenizer.encode_with_offsets(text).unwrap();
        assert_eq!(encoded.ids, ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.encode_with_specials(text).unwrap(), encoded.ids, "{text:?}");
        let offsets: Vec<[usize; 2]> = encoded.offsets.iter().map(|r| [r.start, r.end]).collect();
        assert_eq!(serde_json::to_value(offsets).unwrap(), case["offsets"], "{text:?}");
        let tokens: Vec<_> = encoded.ids.iter().map(|id| tokenizer.id_to_token(*id)).collect();
        assert_eq!(serde_json::to_value(tokens).unwrap(), case["tokens"], "{text:?}");
        let with_special = tokenizer.encode_with_post_processor(text).unwrap();
        assert_eq!(with_special, ids(&case["ids_with_special"]), "{text:?}");
        assert_eq!(tokenizer.decode(&encoded.ids, false), case["decoded"].as_str().unwrap());
        if !encoded.ids.iter().any(|id| tokenizer.is_special(*id)) {
            assert_eq!(tokenizer.encode_text(text).unwrap(), encoded.ids, "{text:?}");
        }
    }
}

fn template_dir(fields: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tokenizer_config.json"), fields.to_string()).unwrap();
    directory
}

fn messages(case: &Value) -> Vec<Message> {
    serde_json::from_value(case["messages"].clone()).unwrap()
}

#[test]
fn chats_have_the_text_and_ids_of_the_reference() {
    let tokenizer = tokenizer();
    let template = ChatTemplate::glm4_0414();
    for case in json("chat_expected.json")["cases"].as_array().unwrap() {
        let name = &case["name"];
        let tools = case["tools"].as_array().cloned().unwrap_or_default();
        let add = case["add_generation_prompt"].as_bool().unwrap();
        let prompt = template.render(&messages(case), &tools, add).unwrap();
        assert_eq!(prompt.text(), case["rendered"].as_str().unwrap(), "{name}");
        let encoded = prompt.encode(&tokenizer).unwrap();
        assert_eq!(encoded, ids(&case["input_ids_content_escaped"]), "{name}");
        let plain = tokenizer.encode_with_specials(prompt.text()).unwrap();
        assert_eq!(plain, ids(&case["input_ids"]), "{name}");
        assert_eq!(tokenizer.decode(&plain, false), case["decoded"].as_str().unwrap());
        let skipped = case["decoded_skip_special"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&plain, true), skipped, "{name}");
        assert_eq!(tokenizer.decode(&encoded, false), prompt.text(), "{name}");
    }
}

#[test]
fn the_template_of_2024_renders_as_the_reference() {
    let source = std::fs::read_to_string(data("glm-4-9b-chat-hf.chat_template.jinja")).unwrap();
    let tokenizer = tokenizer();
    let template = ChatTemplate::from_source(source).unwrap();
    for case in json("chat_expected.json")["old_template_cases"].as_array().unwrap() {
        let add = case["add_generation_prompt"].as_bool().unwrap();
        let prompt = template.render(&messages(case), &[], add).unwrap();
        let rendered = case["rendered"].as_str().unwrap();
        assert_eq!(prompt.text(), rendered);
        let plain = tokenizer.encode_with_specials(rendered).unwrap();
        assert_eq!(prompt.encode(&tokenizer).unwrap(), plain);
    }
}

#[test]
fn a_directory_says_which_template_it_is() {
    let named = template_dir(&serde_json::json!({
        "bos_token": { "content": "<s>" },
        "chat_template": [
            { "name": "default", "template": "{{ bos_token }}D" },
            { "name": "tool_use", "template": "T{{ tools | length }}" },
        ],
    }));
    let tool = serde_json::json!({ "name": "f" });
    let template = ChatTemplate::from_dir(named.path()).unwrap();
    assert_eq!(template.render(&[], &[], false).unwrap().text(), "<s>D");
    assert_eq!(template.render(&[], &[tool], false).unwrap().text(), "T1");

    // The file wins over the field.
    std::fs::write(named.path().join("chat_template.jinja"), "J").unwrap();
    let template = ChatTemplate::from_dir(named.path()).unwrap();
    assert_eq!(template.render(&[], &[], false).unwrap().text(), "J");

    let empty = template_dir(&serde_json::json!({}));
    let error = ChatTemplate::from_dir(empty.path()).unwrap_err();
    assert!(matches!(error, TextError::NoChatTemplate { .. }));
    let broken = template_dir(&serde_json::json!({ "chat_template": 3 }));
    let error = ChatTemplate::from_dir(broken.path()).unwrap_err();
    assert!(matches!(error, TextError::Malformed { field, .. } if field == "chat_template"));
}
