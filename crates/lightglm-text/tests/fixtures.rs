//! Tokenizer and chat template against the reference implementation.
//!
//! The data is Hugging Face transformers 5.23.0's: texts with their ids, messages with what
//! `apply_chat_template` makes of them.

use std::path::{Path, PathBuf};

use lightglm_text::{ChatTemplate, Message, RenderedPrompt, TextError, Tokenizer, TokenizerFamily};
use proptest::prelude::*;
use serde_json::{Value, json as value};

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

/// A folder with `tokenizer.model` and the fields of a tokenizer_config.json, if there is one.
fn model_dir(model: &[u8], config: Option<Value>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.model"), model).unwrap();
    if let Some(config) = config {
        let path = folder.path().join("tokenizer_config.json");
        std::fs::write(path, config.to_string()).unwrap();
    }
    folder
}

fn opened(model: &[u8], config: Option<Value>, family: TokenizerFamily) -> Tokenizer {
    let folder = model_dir(model, config);
    let tokenizer = Tokenizer::from_dir(folder.path(), family).unwrap();
    // What a converted model takes along.
    let json = Tokenizer::json_of_dir(folder.path(), family).unwrap().unwrap();
    let written = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    for text in ["Hello, world!", " a  b<s>", "你好\n"] {
        let ids = tokenizer.encode_with_post_processor(text).unwrap();
        assert_eq!(written.encode_with_post_processor(text).unwrap(), ids);
        let ids = tokenizer.encode_continuation(text).unwrap();
        assert_eq!(written.encode_continuation(text).unwrap(), ids);
    }
    tokenizer
}

const PIECES: &[u8] = include_bytes!("data/sentencepiece/tokenizer.model");

#[test]
fn a_folder_of_pieces_has_the_ids_of_sentencepiece() {
    let tokenizer = opened(PIECES, None, TokenizerFamily::Llama);
    for case in json("../sentencepiece/expected.json")["cases"].as_array().unwrap() {
        let text = case[0].as_str().unwrap();
        assert_eq!(tokenizer.encode_text(text).unwrap(), ids(&case[1]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case[1]), false), case[2].as_str().unwrap(), "{text:?}");
    }
    assert_eq!(tokenizer.front(), [1]);
}

#[test]
fn a_folder_says_what_is_put_around_texts() {
    let open = |config: Value| opened(PIECES, Some(config), TokenizerFamily::Llama);
    let plain = open(value!({ "tokenizer_class": "LlamaTokenizer" }));
    let a = plain.encode_text("a").unwrap();
    let around =
        open(value!({ "add_bos_token": false, "add_eos_token": true, "eos_token": "<|user|>" }));
    let user = plain.token_to_id("<|user|>").unwrap();
    assert_eq!(around.encode_with_post_processor("a").unwrap(), [&a[..], &[user]].concat());
    assert!(around.front().is_empty());
    // Tokens beside the vocabulary's.
    let more = open(value!({ "added_tokens_decoder": {
        "900": { "content": "<pad>", "special": true },
        "901": { "content": "<think>", "special": false },
    } }));
    assert_eq!(more.encode_with_specials("<pad><think>").unwrap(), [900, 901]);
    assert!(!more.encode_text("<think>").unwrap().contains(&901));
    assert_eq!(more.decode(&[900, 901], true), "<think>");
    // Behind a control token there is a space, unless the folder says that there is none.
    let prompt = |tokenizer: &Tokenizer| {
        let template = ChatTemplate::from_source("<s>{{ messages[0].content }}").unwrap();
        let prompt: RenderedPrompt = template.render(&[Message::user("a")], &[], false).unwrap();
        (prompt.encode(tokenizer).unwrap(), tokenizer.encode_with_specials("<s>a").unwrap())
    };
    let behind = [&[1], &a[..]].concat();
    assert_eq!(prompt(&plain), (behind.clone(), behind));
    let first = open(value!({ "legacy": false }));
    let bare = [&[1], &first.encode_continuation("a").unwrap()[..]].concat();
    assert_eq!(prompt(&first), (bare.clone(), bare));
    assert_eq!(first.encode_text("a").unwrap(), a);
    assert_ne!(first.encode_continuation("a").unwrap(), a);
    let none = open(value!({ "add_prefix_space": false }));
    assert_eq!(none.encode_text(" a").unwrap(), a);
}

/// The ordinary tokens of tests/data/text/tokenizer.json as tiktoken's file has them.
const RANKS: &str = include_str!("data/text/tokenizer.model");

#[test]
fn a_folder_of_ranks_has_the_ids_of_tokenizer_json() {
    let expected = json("tokenizer_expected.json");
    let file = json("tokenizer.json");
    let added = file["added_tokens"].as_array().unwrap().iter();
    let described: serde_json::Map<String, Value> =
        added.map(|token| (token["id"].to_string(), token.clone())).collect();
    let json = tokenizer();
    let remote = value!({ "AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", null] });
    let configs = [None, Some(value!({ "auto_map": remote, "added_tokens_decoder": described }))];
    for config in configs {
        let tokens = if config.is_none() { 316 } else { 320 };
        let folder = opened(RANKS.as_bytes(), config, TokenizerFamily::Glm);
        assert_eq!(folder.special_token_ids(), (302..tokens).collect::<Vec<u32>>());
        assert_eq!(folder.front(), json.front());
        for case in expected["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(folder.encode_text(text).unwrap(), json.encode_text(text).unwrap());
        }
        proptest!(ProptestConfig::with_cases(500), |(text in "([the \\n的。ther0-9]|\\PC){0,60}")| {
            prop_assert_eq!(folder.encode_text(&text).unwrap(), json.encode_text(&text).unwrap());
        });
    }
}

#[test]
fn other_vocabularies_are_told_by_name() {
    let refuse = |model: &[u8], config: Option<Value>, family| {
        let folder = model_dir(model, config);
        Tokenizer::from_dir(folder.path(), family).unwrap_err().to_string()
    };
    use TokenizerFamily::{Glm, Llama};
    let class = |class: &str| Some(value!({ "tokenizer_class": class }));
    for (told, error) in [
        ("line 1", refuse(b"garbage\n", None, Glm)),
        ("254 of the 256 bytes", refuse(b"IQ== 0\nIg== 1\n", None, Glm)),
        ("line 303", refuse(format!("{RANKS}IQ== 900\n").as_bytes(), None, Glm)),
        ("git lfs pull", refuse(b"version https://git-lfs.github.com/spec/v1\n", None, Glm)),
        ("ChatGLMTokenizer", refuse(PIECES, class("ChatGLMTokenizer"), Glm)),
        ("SentencePiece model", refuse(PIECES, None, Glm)),
        ("QWenTokenizer", refuse(RANKS.as_bytes(), class("QWenTokenizer"), Llama)),
        ("added_tokens_decoder", refuse(RANKS.as_bytes(), None, Llama)),
        ("cut off", refuse(&PIECES[..5000], None, Llama)),
        ("unigram", refuse(b"\x0a\x03\x0a\x01a", None, Llama)),
        ("add_bos_token", refuse(PIECES, Some(value!({ "add_bos_token": 1 })), Llama)),
        (
            "added_tokens_decoder",
            refuse(PIECES, Some(value!({ "added_tokens_decoder": { "x": 1 } })), Llama),
        ),
    ] {
        assert!(error.contains(told), "{error}, not {told}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    let error = Tokenizer::from_dir(folder.path(), Llama).unwrap_err();
    assert!(matches!(&error, TextError::NoTokenizer { found, .. } if found == &["vocab.json"]));
    assert!(error.to_string().contains("save_pretrained"), "{error}");
}
