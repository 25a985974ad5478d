//! GGUF: metadata, dequantization, the translation to GLM's names, and files that lie.

mod gguf_builder;
mod gguf_models;

use std::path::Path;

use bytes::Bytes;
use gguf_builder::{Builder, floats, model, string, strings, typed};
use lightglm_core::{WeightError, WeightSource};
use lightglm_model::config::{ConfigError, GenerationConfig, GlmConfig, ModelType, RopeScaling};
use lightglm_model::weights::{GgufArray, GgufCheckpoint, GgufFile, GgufValue, check_tensors};

fn parse(bytes: Vec<u8>) -> Result<GgufFile, WeightError> {
    GgufFile::from_bytes(Bytes::from(bytes))
}

fn counts(first: f32, n: usize) -> Vec<f32> {
    (0..n).map(|i| first + i as f32).collect()
}

#[test]
fn every_architecture_is_a_glm() {
    for (name, model_type, bias) in [
        ("llama", ModelType::Glm, false),
        ("glm4", ModelType::Glm4, true),
        ("chatglm", ModelType::Glm, true),
    ] {
        let checkpoint = model(name).checkpoint();
        let config = checkpoint.config().unwrap();
        assert_eq!(config.model_type, model_type, "{name}");
        assert_eq!(config.attention_bias, bias, "{name}");
        assert!(!config.tie_word_embeddings);
        assert_eq!((config.hidden_size, config.head_dim, config.vocab_size), (4, 2, 5));
        assert_eq!((config.rms_norm_eps, config.rope.rope_theta), (1e-5, 5000.0));
        assert_eq!(config.rope.partial_rotary_factor, 1.0);
        assert_eq!(config.eos_token_ids, [4, 3]);
        check_tensors(&checkpoint, &config, Path::new(name)).unwrap();
        assert_eq!(GlmConfig::from_json(config.to_json()).unwrap(), config);
        let layer = |rest: &str| floats(&checkpoint, &format!("model.layers.0.{rest}"));
        assert_eq!(layer("self_attn.q_proj.weight"), counts(110.0, 16), "{name}");
        assert_eq!(layer("self_attn.o_proj.weight"), counts(70.0, 16));
        assert_eq!(layer("post_attention_layernorm.weight"), counts(60.0, 4));
        let up = if name == "llama" { 300.0 } else { 212.0 };
        let gate_up = [counts(200.0, 12), counts(up, 12)].concat();
        assert_eq!(layer("mlp.gate_up_proj.weight"), gate_up, "{name}");
        if name == "chatglm" {
            assert_eq!(layer("self_attn.k_proj.weight"), counts(126.0, 8));
            assert_eq!(layer("self_attn.v_proj.weight"), counts(134.0, 8));
            assert_eq!(layer("self_attn.v_proj.bias"), counts(156.0, 2));
        }
        if name == "glm4" {
            assert_eq!(layer("post_self_attn_layernorm.weight"), counts(180.0, 4));
            assert_eq!(layer("post_mlp_layernorm.weight"), counts(190.0, 4));
        }
    }
}

#[test]
fn plain_tensors_are_views() {
    let bytes = Bytes::from(model("llama").build());
    let range = bytes.as_ptr_range();
    let checkpoint = GgufCheckpoint::new(GgufFile::from_bytes(bytes).unwrap());
    let view = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    assert!(range.contains(&view.bytes.as_ptr()));
}

#[test]
fn a_missing_head_is_tied() {
    let config = model("llama").without("output.weight").checkpoint().config().unwrap();
    assert!(config.tie_word_embeddings);
}

#[test]
fn unknown_tensors_are_found() {
    let checkpoint = model("llama").counting("blk.0.attn_q.scale", &[4], 0.0).checkpoint();
    let config = checkpoint.config().unwrap();
    let error = check_tensors(&checkpoint, &config, Path::new("x")).unwrap_err();
    assert!(
        matches!(error, WeightError::Unexpected { names, .. } if names == ["blk.0.attn_q.scale"])
    );
    let twice = model("llama").without("blk.0.ffn_up.weight").checkpoint();
    let error = check_tensors(&twice, &config, Path::new("x")).unwrap_err();
    assert!(
        matches!(error, WeightError::Missing { name, .. } if name == "model.layers.0.mlp.gate_up_proj.weight")
    );
}

#[test]
fn halves_that_do_not_stack_are_malformed() {
    let checkpoint = model("llama")
        .without("blk.0.ffn_gate.weight")
        .counting("blk.0.ffn_gate.weight", &[3, 5], 0.0)
        .checkpoint();
    let name = "model.layers.0.mlp.gate_up_proj.weight";
    assert_eq!(checkpoint.shape(name), None);
    assert!(matches!(checkpoint.tensor(name), Err(WeightError::Malformed { .. })));
}

#[test]
fn the_configuration_is_checked() {
    let i32s = |values: &[i32]| {
        let mut bytes = typed(9, &5u32.to_le_bytes());
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    };
    let base = || model("llama");
    let cases = [
        (base().without("general.architecture"), "general.architecture"),
        (base().text("general.architecture", "qwen3moe"), "general.architecture"),
        (model("qwen3").u32("qwen3.rope.dimension_count", 1), "qwen3.rope.dimension_count"),
        (
            model("qwen3")
                .u32("qwen3.attention.key_length", 4)
                .u32("qwen3.rope.dimension_count", 2),
            "qwen3.rope.dimension_count",
        ),
        (base().u32("general.architecture", 1), "general.architecture"),
        (base().without("llama.block_count"), "llama.block_count"),
        (base().u32("llama.block_count", 0), "num_hidden_layers"),
        (base().text("llama.block_count", "1"), "llama.block_count"),
        (
            base().key("llama.attention.head_count_kv", i32s(&[1, 2])),
            "llama.attention.head_count_kv",
        ),
        (base().u32("llama.attention.head_count", 0), "llama.attention.head_count"),
        (base().u32("llama.attention.head_count_kv", 0), "num_key_value_heads"),
        (base().u32("llama.attention.head_count", 3), "llama.attention.head_count"),
        (base().u32("llama.attention.head_count_kv", 3), "num_key_value_heads"),
        (base().u32("llama.attention.value_length", 3), "llama.attention.value_length"),
        (base().u32("llama.rope.dimension_count", 3), "llama.rope.dimension_count"),
        (base().u32("llama.rope.dimension_count", 4), "llama.rope.dimension_count"),
        (base().f32("llama.rope.freq_base", 0.0), "llama.rope.freq_base"),
        (base().f32("llama.rope.freq_base", f32::NAN), "llama.rope.freq_base"),
        (base().f32("llama.rope.scaling.factor", 0.5), "llama.rope.scaling.factor"),
        (base().without("llama.context_length"), "llama.context_length"),
        (
            base().without("llama.attention.layer_norm_rms_epsilon"),
            "llama.attention.layer_norm_rms_epsilon",
        ),
        (base().f32("llama.attention.layer_norm_rms_epsilon", -1.0), "rms_norm_eps"),
        (base().u32("llama.expert_count", 8), "llama.expert_count"),
        (
            base().key("llama.rope.dimension_sections", i32s(&[1, 1])),
            "llama.rope.dimension_sections",
        ),
        (base().counting("rope_freqs.weight", &[3], 1.0), "rope_freqs.weight"),
        (base().counting("rope_freqs.weight", &[1], -1.0), "rope_freqs.weight"),
        (base().u32("tokenizer.ggml.eos_token_id", 5), "eos_token_id"),
    ];
    for (builder, key) in cases {
        let error = builder.checkpoint().config().expect_err(key);
        if key == "num_key_value_heads" || key == "num_hidden_layers" {
            assert!(matches!(error, ConfigError::Impossible { .. }), "{error}");
        }
        assert_eq!(error.key(), Some(key), "{error}");
    }
}

#[test]
fn rope_scaling_is_read() {
    let scaled = |kind: &str| {
        model("glm4")
            .text("glm4.rope.scaling.type", kind)
            .f32("glm4.rope.scaling.factor", 4.0)
            .u32("glm4.rope.scaling.original_context_length", 16)
            .checkpoint()
            .config()
            .map(|config| config.rope.scaling)
    };
    assert_eq!(scaled("none").unwrap(), RopeScaling::None);
    assert_eq!(scaled("linear").unwrap(), RopeScaling::Linear { factor: 4.0 });
    assert!(matches!(
        scaled("yarn").unwrap(),
        RopeScaling::Yarn { factor: 4.0, original_max_position_embeddings: 16, truncate: true, .. }
    ));
    assert_eq!(scaled("longrope").unwrap_err().key(), Some("glm4.rope.scaling.type"));
}

/// Llama 3.1's frequencies are divided one by one.
#[test]
fn rope_freqs_divide_frequencies() {
    let config = |builder: Builder| builder.checkpoint().config().unwrap();
    let plain = config(model("llama"));
    let pairs = plain.rotary_dim() / 2;
    let stretched = || model("llama").counting("rope_freqs.weight", &[pairs as u64], 2.0);
    let divided = config(stretched());
    // They are no weight of the model's.
    let [with, without] = [stretched(), model("llama")].map(|b| b.checkpoint().names());
    assert_eq!(with, without);
    let RopeScaling::Divisors(divisors) = &divided.rope.scaling else {
        panic!("{:?}", divided.rope)
    };
    let (plain, _) = plain.rope.inv_freq(2 * pairs);
    let expected: Vec<f32> = plain.iter().zip(divisors).map(|(f, divisor)| f / divisor).collect();
    assert_eq!(divided.rope.inv_freq(2 * pairs), (expected, 1.0));
    assert_eq!(GlmConfig::from_json(divided.to_json()).unwrap().rope, divided.rope);
}

#[test]
fn the_vocabulary_is_read_and_checked() {
    let vocabulary = model("llama").checkpoint().vocabulary().unwrap();
    assert_eq!(vocabulary.tokens, ["a", "b", "c", "d", "e"]);
    assert_eq!(vocabulary.eos_token_ids, [4, 3]);
    assert_eq!((vocabulary.bos_token_id, vocabulary.add_bos_token), (None, false));
    let full = model("llama")
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .key("tokenizer.ggml.merges", strings(&["a b", "c d"]))
        .key("tokenizer.ggml.add_bos_token", typed(7, &[1]))
        .u32("tokenizer.ggml.bos_token_id", 0)
        .text("tokenizer.chat_template", "{{ x }}");
    let vocabulary = full.checkpoint().vocabulary().unwrap();
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_str()), ("gpt2", "smollm"));
    assert_eq!(vocabulary.merges, ["a b", "c d"]);
    assert!(vocabulary.add_bos_token);
    assert_eq!(vocabulary.chat_template.as_deref(), Some("{{ x }}"));
    // What llama.cpp takes such files for that do not say.
    assert!(!vocabulary.add_space_prefix && !vocabulary.add_eos_token);
    let scores = [&6_u32.to_le_bytes()[..], &2_u64.to_le_bytes()].concat();
    let scores = [&scores[..], &0.5_f32.to_le_bytes(), &(-1.0_f32).to_le_bytes()].concat();
    let pieces = model("llama")
        .text("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.scores", typed(9, &scores))
        .key("tokenizer.ggml.add_eos_token", typed(7, &[1]))
        .checkpoint()
        .vocabulary()
        .unwrap();
    assert_eq!(pieces.scores, [0.5, -1.0]);
    assert!(pieces.add_bos_token && pieces.add_space_prefix && pieces.add_eos_token);
    let refused = [
        full.clone().key("tokenizer.ggml.scores", strings(&["x"])),
        full.clone().without("tokenizer.ggml.tokens"),
        full.clone().u32("tokenizer.ggml.tokens", 1),
        full.clone().u32("tokenizer.ggml.bos_token_id", 5),
        full.clone().key("tokenizer.ggml.token_type", strings(&["x"])),
        full.clone().u32("tokenizer.ggml.model", 1),
    ];
    for builder in refused {
        assert!(matches!(builder.checkpoint().vocabulary(), Err(WeightError::Malformed { .. })));
    }
}

#[test]
fn every_value_type_is_read() {
    let scalars = [
        ("u8", typed(0, &[200]), GgufValue::U8(200)),
        ("i8", typed(1, &[0xff]), GgufValue::I8(-1)),
        ("u16", typed(2, &[1, 2]), GgufValue::U16(513)),
        ("i16", typed(3, &[0xfe, 0xff]), GgufValue::I16(-2)),
        ("u32", typed(4, &[1, 0, 0, 0]), GgufValue::U32(1)),
        ("i32", typed(5, &[0xff; 4]), GgufValue::I32(-1)),
        ("f32", typed(6, &0.1f32.to_le_bytes()), GgufValue::F32(0.1)),
        ("bool", typed(7, &[1]), GgufValue::Bool(true)),
        ("string", typed(8, &string("\u{4f60}")), GgufValue::String("\u{4f60}".into())),
        ("u64", typed(10, &[0xff; 8]), GgufValue::U64(u64::MAX)),
        ("i64", typed(11, &[0xff; 8]), GgufValue::I64(-1)),
        ("f64", typed(12, &0.5f64.to_le_bytes()), GgufValue::F64(0.5)),
    ];
    let mut builder = Builder::default();
    for (key, bytes, _) in &scalars {
        builder = builder.key(key, bytes.clone());
    }
    let nested =
        [&[9, 0, 0, 0][..], &1u64.to_le_bytes(), &0u32.to_le_bytes(), &2u64.to_le_bytes(), &[7, 8]];
    builder = builder.key("nested", typed(9, &nested.concat()));
    for version in [2, 3] {
        let file = parse(builder.build_version(version)).unwrap();
        assert_eq!(file.version(), version);
        for (key, _, value) in &scalars {
            assert_eq!(file.get(key), Some(value));
        }
        let array = GgufArray::Array(vec![GgufArray::U8(vec![7, 8])]);
        assert_eq!(file.get("nested"), Some(&GgufValue::Array(array)));
        let order: Vec<&str> = file.metadata().map(|(key, _)| key).collect();
        assert_eq!(order.len(), 13);
        assert_eq!(order[..2], ["u8", "i8"]);
    }
    assert_eq!(GgufValue::F32(0.1).as_f64(), Some(0.1));
    assert_eq!(GgufValue::I32(-1).as_u64(), None);
    assert_eq!(GgufValue::U8(3).as_u64(), Some(3));
}

#[test]
fn files_that_lie_are_malformed() {
    let header = |tensors: u64, keys: u64, rest: &[u8]| {
        let counts = [tensors.to_le_bytes(), keys.to_le_bytes()].concat();
        [&b"GGUF\x03\0\0\0"[..], &counts, rest].concat()
    };
    let array = |element: u32, n: u64, rest: &[u8]| {
        let value = [&element.to_le_bytes()[..], &n.to_le_bytes(), rest].concat();
        Builder::default().key("k", typed(9, &value)).build()
    };
    let mut deep = Vec::new();
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    let q8 =
        |shape: &[u64], bytes| Builder::default().tensor("t", shape, 8, vec![0; bytes]).build();
    let one = Builder::default().counting("t", &[8], 0.0);
    let mut unaligned = one.build();
    // The last eight bytes of the tensor info.
    let offset =
        unaligned.windows(13).position(|w| w == [1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap()
            + 16;
    unaligned[offset] = 4;
    let mut past = one.build();
    past[offset + 7] = 0x80;
    let mut overlapping = one.clone().counting("u", &[8], 0.0).build();
    let second = overlapping.iter().rposition(|byte| *byte == b'u').unwrap() + 1 + 4 + 8 + 4;
    assert_eq!(overlapping[second], 32);
    overlapping[second] = 0;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("magic", b"GGML\x03\0\0\0".to_vec()),
        ("version 1", one.build_version(1)),
        ("version 4", one.build_version(4)),
        ("big-endian", one.build_version(3u32.swap_bytes())),
        ("no counts", b"GGUF\x03\0\0\0\0".to_vec()),
        ("2^64 - 1 tensors", header(u64::MAX, 0, &[])),
        ("2^64 - 1 keys", header(0, u64::MAX, &[])),
        ("2^40 keys", header(0, 1 << 40, &[0; 64])),
        ("a key past the end", header(0, 1, &[&u64::MAX.to_le_bytes()[..], &[0; 16]].concat())),
        ("an unknown value type", Builder::default().key("k", typed(13, &[0; 16])).build()),
        ("a boolean 2", Builder::default().key("k", typed(7, &[2])).build()),
        (
            "no UTF-8",
            Builder::default().key("k", typed(8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe])).build(),
        ),
        ("an array of 2^64 - 1", array(0, u64::MAX, &[0; 64])),
        ("an array of 2^61 u64", array(10, 1 << 61, &[0; 64])),
        ("an array of 2^32 strings", array(8, 1 << 32, &[0; 64])),
        ("arrays 100,000 deep", array(9, 1, &deep)),
        ("a key twice", {
            let mut builder = Builder::default().u32("k", 1);
            builder.keys.push(("k".into(), typed(4, &[0; 4])));
            builder.build()
        }),
        ("a tensor twice", one.clone().counting("t", &[8], 0.0).build()),
        ("five dimensions", Builder::default().counting("t", &[1, 1, 1, 1, 1], 0.0).build()),
        ("shape overflows", q8(&[1 << 40, 1 << 40], 34)),
        ("bytes overflow", Builder::default().tensor("t", &[1 << 62], 0, vec![0; 32]).build()),
        ("not whole blocks", q8(&[33], 68)),
        ("rows not whole blocks", q8(&[2, 16], 34)),
        ("too little data", q8(&[64], 34)),
        ("offset not aligned", unaligned),
        ("offset past the end", past),
        ("overlap", overlapping),
        ("alignment 0", one.clone().u32("general.alignment", 0).build()),
        ("alignment 24", one.clone().u32("general.alignment", 24).build()),
        ("alignment of text", one.clone().text("general.alignment", "32").build()),
    ];
    for (what, bytes) in cases {
        let error = parse(bytes).expect_err(what);
        assert!(matches!(error, WeightError::Malformed { format: "GGUF", .. }), "{what}: {error}");
    }
    let unknown = parse(Builder::default().tensor("t", &[256], 16, vec![0; 66]).build());
    assert!(matches!(unknown, Err(WeightError::UnsupportedDtype { name, .. }) if name == "t"));
}

#[test]
fn truncated_and_changed_files_never_panic() {
    for architecture in ["llama", "glm4", "chatglm"] {
        let builder = model(architecture).key("tokenizer.ggml.merges", strings(&["a b"]));
        let bytes = builder.build();
        for end in 0..bytes.len() {
            // The last tensor's end may be followed by nothing but its own bytes.
            assert!(parse(bytes[..end].to_vec()).is_err(), "cut to {end}");
        }
        let mut state = 1u64;
        for _ in 0..10_000 {
            let mut changed = bytes.clone();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for i in 0..1 + (state >> 60) % 3 {
                let word = (state ^ (i << 17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                changed[(word >> 33) as usize % bytes.len()] = (word >> 20) as u8;
            }
            let Ok(file) = parse(changed) else { continue };
            let checkpoint = GgufCheckpoint::new(file);
            if let Ok(config) = checkpoint.config() {
                drop(check_tensors(&checkpoint, &config, Path::new("x")));
            }
            drop(checkpoint.vocabulary());
            for name in checkpoint.names() {
                drop(checkpoint.tensor(&name));
            }
        }
    }
}

#[test]
fn block_tensors_come_as_f32_in_many_tasks() {
    // Enough blocks for three tasks, each with its own scale.
    let rows = 80u64;
    let data: Vec<u8> = (0..rows * 32)
        .flat_map(|i| {
            let scale = half::f16::from_f32((i % 97) as f32).to_le_bytes();
            [&scale[..], &[(i % 100) as u8; 32]].concat()
        })
        .collect();
    let checkpoint = model("llama")
        .without("output.weight")
        .tensor("output.weight", &[rows, 1024], 8, data)
        .checkpoint();
    let values = floats(&checkpoint, "lm_head.weight");
    assert_eq!(values.len(), 80 * 1024);
    for (i, block) in values.chunks(32).enumerate() {
        assert!(block.iter().all(|x| *x == (i % 97) as f32 * (i % 100) as f32), "{i}");
    }
}

/// Sampling as llama.cpp's converter writes it.
#[test]
fn sampling_is_read_from_metadata() {
    let file = model("llama")
        .f32("general.sampling.temp", 0.7)
        .f32("general.sampling.top_p", 0.8)
        .key("general.sampling.top_k", typed(5, &20i32.to_le_bytes()))
        .f32("general.sampling.penalty_repeat", 1.05)
        .key("general.sampling.mirostat", typed(5, &2i32.to_le_bytes()));
    let config = file.checkpoint().generation_config().unwrap();
    let expected = GenerationConfig {
        temperature: Some(0.7),
        top_p: Some(0.8),
        top_k: Some(20),
        repetition_penalty: Some(1.05),
        unused: vec!["mirostat".to_owned()],
        ..GenerationConfig::default()
    };
    assert_eq!(config, expected);
    let plain = model("llama").checkpoint().generation_config().unwrap();
    assert_eq!(plain, GenerationConfig::default());
    let error = model("llama").f32("general.sampling.top_p", 2.0).checkpoint();
    assert_eq!(error.generation_config().unwrap_err().key(), Some("top_p"));
}
