//! Everything that reads bytes from outside, fed with mutated inputs: no panic, no hang, no memory
//! that a length field made up.
//!
//! ```sh
//! cargo test --release -p lightglm-model --test fuzz                               # a smoke test
//! LIGHTGLM_FUZZ_EXECS=10000000 cargo test --release -p lightglm-model --test fuzz  # a night
//! ```
//! docs/contributing.md, "Fuzzing", has the other variables. Seeds are built here, so the test runs
//! from the repository alone.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lightglm_core::WeightSource;
use lightglm_generation::{ToolCallEvent, ToolCallStream, parse_tool_calls};
use lightglm_model::config::{GenerationConfig, GlmConfig};
use lightglm_model::weights::{GgufCheckpoint, GgufFile, parse_safetensors_header};
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use lightglm_text::{ChatTemplate, Message, Tokenizer, TokenizerFamily};

/// Address space that one run may grow by. Far above what 64 KiB of input can ask for with reason,
/// and above the arenas of the allocator's threads; far below what a made-up length asks for.
const MEMORY_GROWTH: u64 = 8 << 30;

/// Most elements that a tensor of a mutated file is read with.
const READ_ELEMENTS: usize = 1 << 20;

fn fuzz(name: &str, seeds: Vec<Vec<u8>>, tokens: &[&str], target: impl FnMut(&[u8]) -> u64) {
    let mut fuzzer = Fuzzer::new(name);
    assert!(!seeds.is_empty());
    fuzzer.seeds = seeds;
    fuzzer.dictionary = tokens.iter().map(|token| token.as_bytes().to_vec()).collect();
    fuzzer.max_memory_growth = Some(MEMORY_GROWTH);
    let report = fuzzer.run(target).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.outcomes > 1, "the mutations of {name} all looked alike: {report:?}");
    println!("{name}: {report:?}");
}

const JSON_TOKENS: [&str; 18] = [
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "1e-7",
    "0.5",
    "4294967296",
    "18446744073709551615",
    "-9223372036854775808",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\\ud800",
    "\\u0000",
    "\u{feff}",
    ",",
];

const GLM4_CONFIG: &str = r#"{"model_type": "glm4", "attention_bias": true, "bos_token_id": null,
"eos_token_id": [0, 1], "head_dim": 16, "hidden_act": "silu", "hidden_size": 64,
"intermediate_size": 112, "max_position_embeddings": 512, "num_attention_heads": 4,
"num_hidden_layers": 3, "num_key_value_heads": 2, "pad_token_id": 3, "rms_norm_eps": 1e-05,
"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 10000.0, "rope_type": "default"},
"tie_word_embeddings": false, "vocab_size": 320}"#;

const GLM_CONFIG: &str = r#"{"model_type": "glm", "hidden_size": 64, "intermediate_size": 112,
"num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 320, "rope_theta": 10000.0,
"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}"#;

const QWEN2_CONFIG: &str = r#"{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 112,
"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 320,
"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28, "rope_theta": 1000000.0,
"layer_types": ["full_attention", "full_attention"], "tie_word_embeddings": true}"#;

const GENERATION_CONFIG: &str = r#"{"do_sample": true, "temperature": 0.8, "top_k": 50,
"top_p": 0.95, "repetition_penalty": 1.1, "eos_token_id": [0, 1], "pad_token_id": 3,
"max_new_tokens": 64}"#;

#[test]
fn config_json() {
    let seeds = [GLM4_CONFIG, GLM_CONFIG, QWEN2_CONFIG].map(|json| json.into());
    fuzz("config", seeds.into(), &JSON_TOKENS, |input| match GlmConfig::from_json(input) {
        Ok(_) => 0,
        Err(error) => fingerprint(&format_args!("{error}")),
    });
}

#[test]
fn generation_config_json() {
    fuzz("generation_config", vec![GENERATION_CONFIG.into()], &JSON_TOKENS, |input| {
        match GenerationConfig::from_json(input) {
            Ok(_) => 0,
            Err(error) => fingerprint(&format_args!("{error}")),
        }
    });
}

#[test]
fn safetensors_header() {
    let tokens: Vec<&str> =
        JSON_TOKENS.into_iter().chain(["data_offsets", "BF16", "I8", "__metadata__"]).collect();
    let file = Path::new("fuzzed.safetensors");
    fuzz("safetensors", safetensors_seeds(), &tokens, |input| {
        let header = parse_safetensors_header(input, file);
        if let Ok(header) = &header {
            for (name, tensor) in &header.tensors {
                // What the parser promises of a header that it accepts.
                let range = &tensor.range;
                assert!(range.start <= range.end && range.end <= input.len(), "{name}: {range:?}");
            }
        }
        match header {
            Ok(header) => header.tensors.len().min(4) as u64,
            Err(error) => fingerprint(&format_args!("{error}")),
        }
    });
}

#[test]
fn gguf() {
    let tokens = ["GGUF", "general.alignment", "llama.block_count", "blk.0.attn_q.weight"];
    fuzz("gguf", vec![gguf_seed(2), gguf_seed(3)], &tokens, |input| {
        let file = match GgufFile::from_bytes(Bytes::copy_from_slice(input)) {
            Ok(file) => file,
            Err(error) => return fingerprint(&format_args!("{error}")),
        };
        for (name, tensor) in file.tensors() {
            assert!(tensor.range.end <= input.len(), "{name}: {:?}", tensor.range);
            assert_eq!(file.tensor_bytes(name).map(|b| b.len()), Some(tensor.range.len()));
        }
        let checkpoint = GgufCheckpoint::new(file);
        let (config, vocabulary) = (checkpoint.config(), checkpoint.vocabulary());
        let names = checkpoint.names();
        let mut read = 0;
        for name in &names {
            let shape = checkpoint.shape(name).unwrap_or_default();
            if shape.iter().product::<usize>() <= READ_ELEMENTS {
                let tensor = checkpoint.tensor(name);
                if let Ok(tensor) = &tensor {
                    let elements: usize = tensor.shape.iter().product();
                    assert_eq!(tensor.bytes.len(), elements * tensor.dtype.size(), "{name}");
                }
                read += usize::from(tensor.is_ok());
            }
        }
        let outcome = (config.map(|_| ()), vocabulary.map(|v| v.model.is_empty()).is_ok());
        fingerprint(&(outcome, read, names.len())) ^ read as u64
    });
}

#[test]
fn tokenizer_json() {
    let tokens: Vec<&str> = JSON_TOKENS
        .into_iter()
        .chain(["Sequence", "ByteLevel", "Split", "Isolated", "BPE", "added_tokens", "\\\\p{N}+"])
        .collect();
    fuzz("tokenizer", vec![tokenizer_seed()], &tokens, |input| {
        let tokenizer = match Tokenizer::from_bytes(input) {
            Ok(tokenizer) => tokenizer,
            Err(error) => return fingerprint(&format_args!("{error}")),
        };
        let ids = tokenizer.encode_text("Hello  world 123 <|user|> 你好\n").unwrap_or_default();
        let text = tokenizer.decode(&ids, false);
        let unknown = tokenizer.decode(&[0, 1, u32::MAX], true);
        fingerprint(&(ids.len().min(64), text.is_empty(), unknown.is_empty())) ^ ids.len() as u64
    });
}

/// SentencePiece's model file and tiktoken's, as a folder of each family's has them.
#[test]
fn tokenizer_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenizer.model");
    let tokens = ["\n\u{7}\n\u{1}a", "<0x41>", "▁", "IQ== 0\n", "YWI= 256\n", "\u{18}\u{6}"];
    fuzz("tokenizer_model", vec![pieces_seed(), ranks_seed()], &tokens, |input| {
        // Anew: file systems take milliseconds over a file that is cut and written again.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, input).expect("a file");
        let family = match input.first() {
            Some(b'\n') => TokenizerFamily::Llama,
            _ => TokenizerFamily::Glm,
        };
        let json = match Tokenizer::json_of_dir(folder.path(), family) {
            Ok(json) => json.expect("there is no other tokenizer"),
            // Without the name of the folder, which differs from run to run.
            Err(error) => return fingerprint(&error.to_string().rsplit(".model").next()),
        };
        // Tokenizers take milliseconds to build.
        if input.len() % 32 == 0
            && let Ok(tokenizer) = Tokenizer::from_bytes(json.as_bytes())
        {
            let ids = tokenizer.encode_text("a ab  <s>你\n").unwrap_or_default();
            return fingerprint(&(ids.len(), tokenizer.decode(&ids, false).len()));
        }
        json.len() as u64
    });
}

#[test]
fn tokenized_text() {
    let tokenizer = Tokenizer::from_bytes(&tokenizer_seed()).expect("the seed is valid");
    let seeds = ["Hello  world 123", "<|user|>", "你好\r\n\t", "'s 're \u{0} \u{10ffff}"];
    let tokens = ["<|user|>", "<|end", "|>", "\u{301}", "你", " ", "\n"];
    fuzz("text", seeds.map(|s| s.into()).into(), &tokens, |input| {
        let text = String::from_utf8_lossy(input);
        let ids = tokenizer.encode_text(&text).expect("byte-level BPE knows every text");
        assert!(ids.iter().all(|id| !tokenizer.is_special(*id)), "text became a control token");
        assert_eq!(tokenizer.decode(&ids, false), text, "the round trip");
        let mut stream = tokenizer.decode_stream(false);
        let mut pieces: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
        pieces.extend(stream.finish());
        assert_eq!(pieces, text, "the streamed round trip");
        ids.len().min(32) as u64
    });
}

#[test]
fn chat_template() {
    let default = include_str!("../../lightglm-text/src/glm4_0414.jinja");
    let short = "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] | trim }}{% endfor %}";
    let tokens = [
        "{%",
        "%}",
        "{{",
        "}}",
        "{%- if ",
        "{% endif %}",
        "{% for x in ",
        "{% endfor %}",
        "messages",
        "range(99)",
        "|tojson",
        ".strip()",
        "[::-1]",
        "namespace(a=1)",
        "{% set a = ",
        "loop.last",
    ];
    let messages = [Message::system("be brief"), Message::user("hi {{ 1 }} <|user|>")];
    fuzz("chat_template", vec![default.into(), short.into()], &tokens, |input| {
        let rendered = ChatTemplate::from_source(String::from_utf8_lossy(input))
            .map(|template| template.with_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1)))
            .and_then(|template| template.render(&messages, &[], true));
        if let Ok(prompt) = &rendered {
            for range in prompt.content_ranges() {
                assert!(prompt.text().get(range.clone()).is_some(), "{range:?} cuts a character");
            }
        }
        match rendered {
            Ok(prompt) => prompt.content_ranges().len() as u64,
            Err(error) => fingerprint(&format_args!("{error:#}")),
        }
    });
}

#[test]
fn tool_calls() {
    let names = ["get_weather", "f", "搜索"];
    let seeds = [
        "One moment.\nget_weather\n{\"city\": \"Paris\", \"days\": [1, -2.5e3, null]}",
        "f\n{}\nf \r\n{\"a\": {\"b\": \"\\u00e9 \\\" }\"}}\nDone.\n搜索\n{\"q\": \"你好\"}",
    ];
    let tokens =
        ["get_weather\n", "\nf\n{", "搜索\n{}", "{\"", "\":", "}", "\\\"", "\n", "[[[[", "\\ud83d"];
    fuzz("tool_calls", seeds.map(|s| s.into()).into(), &tokens, |input| {
        let text = String::from_utf8_lossy(input);
        let whole = parse_tool_calls(&text, &names);
        for call in &whole.calls {
            assert!(names.contains(&call.name.as_str()), "a call of nobody's tool");
            let parsed: serde_json::Value =
                serde_json::from_str(&call.raw_arguments).expect("arguments are JSON");
            assert!(parsed.is_object() && parsed == call.arguments);
        }
        // However the text is cut into pieces, the outcome is the same.
        let mut stream = ToolCallStream::new(&names);
        let (mut content, mut calls) = (String::new(), Vec::new());
        let pieces = text.split_inclusive([' ', '"', '\n', '{', '你']);
        let events: Vec<_> = pieces.flat_map(|piece| stream.push(piece)).collect();
        for event in events.into_iter().chain(stream.finish()) {
            match event {
                ToolCallEvent::Content(text) => content.push_str(&text),
                ToolCallEvent::CallFinished(call) => calls.push(call),
                _ => {}
            }
        }
        assert_eq!((&content, &calls), (&whole.content, &whole.calls));
        (whole.calls.len().min(8) * 64 + whole.content.len().min(63)) as u64
    });
}

// Seeds.

/// Two tensors and metadata; no tensor at all.
fn safetensors_seeds() -> Vec<Vec<u8>> {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    };
    let header = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],
"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    vec![file(header, 32), file("{}", 0)]
}

/// A llama with one block of hidden size 32, half of its tensors quantized.
fn gguf_seed(version: u32) -> Vec<u8> {
    let mut file = GgufWriter::new(version);
    file.text("general.architecture", "llama");
    file.number("general.alignment", 32);
    for (key, value) in [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 32),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 16),
        ("vocab_size", 4),
    ] {
        file.number(&format!("llama.{key}"), value);
    }
    file.key("llama.attention.layer_norm_rms_epsilon", 6);
    file.head.extend(1e-5_f32.to_le_bytes());
    file.key("llama.rope.freq_base", 6);
    file.head.extend(1e4_f32.to_le_bytes());
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", "smollm");
    file.texts("tokenizer.ggml.tokens", &["<|end|>", "a", "b", "ab"]);
    file.texts("tokenizer.ggml.merges", &["a b"]);
    file.number("tokenizer.ggml.eos_token_id", 0);
    let (f32_type, q4_1, q8_0) = ((0, 1, 4), (3, 32, 20), (8, 32, 34));
    file.tensor("token_embd.weight", &[32, 4], q8_0);
    file.tensor("output_norm.weight", &[32], f32_type);
    file.tensor("blk.0.attn_norm.weight", &[32], f32_type);
    file.tensor("blk.0.ffn_norm.weight", &[32], f32_type);
    for (name, shape) in [
        ("attn_q", [32, 32]),
        ("attn_k", [32, 16]),
        ("attn_v", [32, 16]),
        ("attn_output", [32, 32]),
        ("ffn_gate", [32, 32]),
        ("ffn_up", [32, 32]),
        ("ffn_down", [32, 32]),
    ] {
        file.tensor(&format!("blk.0.{name}.weight"), &shape, q4_1);
    }
    file.finish()
}

/// Writes the little of GGUF that the seed needs.
struct GgufWriter {
    version: u32,
    keys: u64,
    tensors: u64,
    head: Vec<u8>,
    infos: Vec<u8>,
    data: usize,
}

impl GgufWriter {
    fn new(version: u32) -> Self {
        Self { version, keys: 0, tensors: 0, head: Vec::new(), infos: Vec::new(), data: 0 }
    }

    fn key(&mut self, key: &str, value_type: u32) {
        self.keys += 1;
        put_text(&mut self.head, key);
        self.head.extend(value_type.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.head.extend(value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.head, value);
    }

    fn texts(&mut self, key: &str, values: &[&str]) {
        self.key(key, 9);
        self.head.extend(8_u32.to_le_bytes());
        self.head.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| put_text(&mut self.head, value));
    }

    /// `(number, elements, bytes)` describe the ggml type and its blocks.
    fn tensor(&mut self, name: &str, shape: &[u64], (number, elements, bytes): (u32, u64, u64)) {
        self.tensors += 1;
        put_text(&mut self.infos, name);
        self.infos.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|size| self.infos.extend(size.to_le_bytes()));
        self.infos.extend(number.to_le_bytes());
        self.infos.extend((self.data as u64).to_le_bytes());
        let len = shape.iter().product::<u64>() / elements * bytes;
        self.data = (self.data + len as usize).next_multiple_of(32);
    }

    fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.head);
        file.extend(self.infos);
        file.resize(file.len().next_multiple_of(32) + self.data, 0x11);
        file
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Pieces of all kinds, and the specifications behind them.
fn pieces_seed() -> Vec<u8> {
    let mut model = Vec::new();
    let mut put = |text: &str, score: f32, kind: u8| {
        let mut piece = vec![0x0A, text.len() as u8];
        piece.extend(text.as_bytes());
        piece.push(0x15);
        piece.extend(score.to_le_bytes());
        piece.extend([0x18, kind]);
        model.extend([0x0A, piece.len() as u8]);
        model.extend(piece);
    };
    for (text, kind) in [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<0x41>", 6), ("<x>", 4), ("p", 5)]
    {
        put(text, 0.0, kind);
    }
    for (score, text) in ["▁a", "ab", "▁", "a", "b"].into_iter().enumerate() {
        put(text, -(score as f32), 1);
    }
    // BPE, with bytes; a space in front, and no others taken out.
    model.extend([0x12, 5, 0x18, 2, 0x98, 0x02, 1]);
    model.extend([0x1A, 4, 0x18, 1, 0x20, 0]);
    model
}

/// A token for each byte, and one of two.
fn ranks_seed() -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |value: usize| char::from(DIGITS[value & 63]);
    let byte = |byte: usize| format!("{}{}== {byte}\n", digit(byte >> 2), digit(byte << 4));
    let bytes: String = (0..256).map(byte).collect();
    format!("{bytes}YWI= 256\n").into_bytes()
}

/// Byte-level BPE with GLM-4's split pattern, two merges and one control token.
fn tokenizer_seed() -> Vec<u8> {
    let mut vocabulary = serde_json::Map::new();
    for symbol in byte_symbols().chain(["He".into(), "ll".into()]) {
        let id = vocabulary.len();
        vocabulary.insert(symbol, id.into());
    }
    let control = vocabulary.len();
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": false});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": control, "content": "<|user|>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                "invert": false}, byte_level]},
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": true, "vocab": vocabulary,
            "merges": [["H", "e"], ["l", "l"]]},
    });
    json.to_string().into_bytes()
}

/// GPT-2's characters for the 256 bytes: printable ones are themselves, the others start at U+0100.
fn byte_symbols() -> impl Iterator<Item = String> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let shifted = (0..256).filter(move |byte| !printable(byte)).count() as u32;
    let plain = (0..256).filter(printable);
    plain.chain(0x100..0x100 + shifted).filter_map(char::from_u32).map(String::from)
}
