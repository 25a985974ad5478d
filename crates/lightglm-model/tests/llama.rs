//! Folders in other layouts than GLM's, the Llama family's and ChatGLM's: logits of transformers
//! (`tools/llama_golden.py`), and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, KvDtype, KvShape, LogitRows, ProjectionLayout, SequenceId, Span, WeightDtype,
    save_safetensors,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{ConfigError, GlmConfig, ModelType, RopeScaling};
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_testkit::check_weight_source;
use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama").join(name)
}

/// Changes the bytes of a tensor, or makes them none, and gives it the shape that is returned.
type Change = fn(&str, &mut Vec<u8>) -> Option<Vec<usize>>;

/// A copy of the model `name` with other fields, and one tensor changed by `change`.
fn changed(name: &str, fields: &Value, change: Change) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let config = fs::read(folder(name).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in fields.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(out.path().join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(folder(name).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut kept = Vec::new();
    for (name, view) in tensors.tensors() {
        let mut bytes = view.data().to_vec();
        let shape = change(&name, &mut bytes).unwrap_or_else(|| view.shape().to_vec());
        if !bytes.is_empty() {
            kept.push((name, view.dtype(), shape, bytes));
        }
    }
    let views = kept.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, &out.path().join("model.safetensors")).unwrap();
    out
}

/// Logits of `tokens`, `[tokens, vocab_size]`.
fn logits(model: &DenseGlm<Flex>, tokens: &[u32]) -> Vec<f32> {
    let span = Span::text(SequenceId(0), tokens, LogitRows::All);
    model.forward_uncached(&[span]).unwrap().into_data().to_vec().unwrap()
}

fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = fs::read(folder(name).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let ids = tensors.tensor("input_ids").unwrap();
    let ids = ids.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32);
    let logits = tensors.tensor("logits").unwrap();
    let logits = logits.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (ids.collect(), logits.collect())
}

/// The largest difference, as a share of the largest logit.
fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let worst = actual.iter().zip(expected).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, f32::max) / largest
}

#[test]
fn logits_are_those_of_transformers() {
    for name in ["llama_tied", "llama_bias", "mistral", "qwen2", "qwen3", "chatglm"] {
        let checkpoint = Checkpoint::open(&folder(name)).unwrap();
        let config = checkpoint.config();
        let model_type = if name == "qwen3" { ModelType::GlmQkNorm } else { ModelType::Glm };
        assert_eq!(config.model_type, model_type);
        let biased = ["llama_bias", "qwen2", "chatglm"];
        assert_eq!(config.attention_bias, biased.contains(&name));
        assert_eq!(config.tie_word_embeddings, name == "llama_tied");
        let layout = match name {
            "chatglm" => ProjectionLayout::Glm,
            _ => ProjectionLayout::Llama { head_dim: 8 },
        };
        assert_eq!(checkpoint.adapter_layout(), layout);
        let precision = LoadPrecision::Convert(WeightDtype::F32);
        let model = checkpoint.load::<Flex>(precision, &FlexDevice).unwrap();
        let (tokens, wanted) = expected(name);
        let worst = difference(&logits(&model, &tokens), &wanted);
        println!("{name}: {worst:e}");
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}

/// A prompt in two chunks and then token after token, through the cache, has the bits of the whole one.
#[test]
fn norms_of_heads_go_through_the_cache() {
    let checkpoint = Checkpoint::open(&folder("qwen3")).unwrap();
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let (tokens, _) = expected("qwen3");
    let mut cache = ContiguousKvCache::<Flex>::new(
        KvShape::from(checkpoint.config()),
        1,
        tokens.len(),
        KvDtype::F32,
        &FlexDevice,
    );
    let mut found = Vec::new();
    let chunks = [&tokens[..7], &tokens[7..13]].into_iter().chain(tokens[13..].chunks(1));
    for tokens in chunks {
        let span = Span::text(SequenceId(0), tokens, LogitRows::All);
        let rows = model.forward(&[span], &mut cache).unwrap();
        found.extend(rows.into_data().to_vec::<f32>().unwrap());
    }
    assert_eq!(found, logits(&model, &tokens));
}

/// Rows of q and k that change places alike change the rotary embedding alone: the goldens can tell.
#[test]
fn the_order_of_rows_shows() {
    // Of one of the norms alone.
    let other = changed("qwen3", &json!({}), |name, bytes| {
        if name.ends_with("0.self_attn.q_norm.weight") {
            bytes.rotate_left(2);
        }
        None
    });
    let precision = LoadPrecision::Convert(WeightDtype::F32);
    let checkpoint = Checkpoint::open(other.path()).unwrap();
    let model = checkpoint.load::<Flex>(precision, &FlexDevice).unwrap();
    let (tokens, wanted) = expected("qwen3");
    assert!(difference(&logits(&model, &tokens), &wanted) > 1e-2);
    let other = changed("qwen2", &json!({}), |name, bytes| {
        let rows = match name.contains("q_proj") {
            true => 32,
            false => name.contains("k_proj").then_some(16)?,
        };
        let row_bytes = bytes.len() / rows;
        for two in bytes.chunks_exact_mut(2 * row_bytes) {
            two.rotate_left(row_bytes);
        }
        None
    });
    let precision = LoadPrecision::Convert(WeightDtype::F32);
    let checkpoint = Checkpoint::open(other.path()).unwrap();
    let model = checkpoint.load::<Flex>(precision, &FlexDevice).unwrap();
    let (tokens, wanted) = expected("qwen2");
    assert!(difference(&logits(&model, &tokens), &wanted) > 1e-2);
}

/// The source's tensors, written out, are a model of type `glm` that says the same.
#[test]
fn weights_are_a_glm_checkpoint() {
    for name in ["llama_bias", "llama_tied", "qwen3", "chatglm"] {
        let checkpoint = Checkpoint::open(&folder(name)).unwrap();
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("model.safetensors");
        save_safetensors(&file, checkpoint.weights(), &Default::default()).unwrap();
        let config = GlmConfig::from_json(checkpoint.config().to_json()).unwrap();
        assert_eq!(config, *checkpoint.config());
        let weights = SafetensorsCheckpoint::open(&file).unwrap();
        let precision = LoadPrecision::Convert(WeightDtype::F32);
        let model = DenseGlm::<Flex>::load(&config, &weights, &file, precision, &FlexDevice);
        let (tokens, wanted) = expected(name);
        assert!(difference(&logits(&model.unwrap(), &tokens), &wanted) < 1e-5, "{name}");
    }
}

#[test]
fn tensors_as_stored_are_those_of_the_views() {
    let checkpoint = Checkpoint::open(&folder("qwen2")).unwrap();
    let source = checkpoint.weights();
    check_weight_source(source);
    for name in source.names() {
        let view = source.tensor(&name).unwrap();
        assert_eq!(source.shape(&name), Some(view.shape.clone()), "{name}");
        let stored = source.stored(&name).unwrap();
        assert_eq!((&stored.dtype[..], &stored.shape), ("BF16", &view.shape), "{name}");
        assert_eq!(stored.parts.concat(), view.bytes, "{name}");
        let rows = source.stored_rows(&name).unwrap();
        assert_eq!(rows.len(), if name.contains("gate_up") { 2 } else { 1 }, "{name}");
        let parts: Vec<_> = rows.into_iter().flat_map(|rows| rows.parts).collect();
        assert_eq!(parts.concat(), view.bytes, "{name}");
    }
    let stored = checkpoint.stored_dtypes().unwrap();
    assert_eq!(stored["BF16"].parameters, checkpoint.config().num_parameters());
    let missing = source.tensor("model.layers.0.mlp.up_proj.weight").unwrap_err().to_string();
    assert!(missing.contains("`model.layers.0.mlp.up_proj.weight` is missing"), "{missing}");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let refused = |model: &str, fields: Value, change: Change| {
        let out = changed(model, &fields, change);
        let loaded = Checkpoint::open(out.path())
            .and_then(|found| found.load::<Flex>(LoadPrecision::Stored, &FlexDevice));
        loaded.map(|_| ()).unwrap_err().to_string()
    };
    let keep = |_: &str, _: &mut Vec<u8>| None;
    let error = refused("qwen2", json!({}), |name, bytes| {
        let gone = name == "model.layers.1.mlp.gate_proj.weight";
        gone.then(|| bytes.clear()).map(|()| vec![0])
    });
    assert!(error.contains("`model.layers.1.mlp.gate_proj.weight` is missing"), "{error}");
    let error = refused("qwen2", json!({}), |name, bytes| {
        let gone = name == "model.layers.1.mlp.up_proj.weight";
        gone.then(|| bytes.clear()).map(|()| vec![0])
    });
    assert!(error.contains("`model.layers.1.mlp.up_proj.weight` is missing"), "{error}");
    let error = refused("qwen2", json!({ "num_hidden_layers": 3 }), keep);
    assert!(error.contains("`model.layers.2.mlp.gate_proj.weight` is missing"), "{error}");
    let error = refused("qwen2", json!({ "num_hidden_layers": 1 }), keep);
    assert!(error.contains("unexpected tensors"), "{error}");
    let error = refused("qwen2", json!({ "head_dim": 12 }), keep);
    assert!(error.contains("has no heads of 12 rows"), "{error}");
    let error = refused("qwen2", json!({ "model_type": "mistral" }), keep);
    assert!(error.contains("unexpected tensors"), "{error}");
    let error = refused("mistral", json!({ "model_type": "qwen2" }), keep);
    assert!(error.contains("q_proj.bias` is missing"), "{error}");
    let error = refused("qwen2", json!({}), |name, _| {
        name.ends_with("0.mlp.up_proj.weight").then(|| vec![16, 20])
    });
    assert!(error.contains("beside an up projection of [16, 20]"), "{error}");
    let error = refused("llama_bias", json!({}), |name, bytes| {
        if name.ends_with("1.self_attn.o_proj.bias") {
            bytes[3] = 0x3f;
        }
        None
    });
    assert!(error.contains("`model.layers.1.self_attn.o_proj.bias` is not zero"), "{error}");
}

fn parse(fields: Value) -> Result<GlmConfig, ConfigError> {
    let mut config = json!({ "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4 });
    for (key, value) in fields.as_object().unwrap() {
        config[key] = value.clone();
    }
    GlmConfig::from_json(config.to_string())
}

/// What another program quantized is for who reads it to refuse: its tensors stay as the file has them.
#[test]
fn quantized_weights_keep_their_layout() {
    let quantized = json!({ "quantization_config": { "quant_method": "awq", "bits": 4 } });
    let out = changed("qwen2", &quantized, |_, _| None);
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    assert_eq!(checkpoint.weights_layout(), ProjectionLayout::Llama { head_dim: 8 });
    assert!(checkpoint.weights().shape("model.layers.0.mlp.up_proj.weight").is_some());
    let error = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap_err();
    assert!(error.to_string().contains("gate_up_proj.weight` is missing"), "{error}");
    let plain = Checkpoint::open(&folder("qwen2")).unwrap();
    assert_eq!(plain.weights_layout(), ProjectionLayout::Glm);
}

/// SmolLM2-135M's, Qwen2.5-0.5B's and Mistral-7B-v0.1's own files, shortened by what changes nothing.
#[test]
fn files_of_the_hub_are_read() {
    let smollm2 = parse(json!({
        "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "vocab_size": 49152,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "max_position_embeddings": 8192,
        "attention_bias": false, "hidden_act": "silu", "is_llama_config": true, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 2,
    }));
    let smollm2 = smollm2.unwrap();
    assert_eq!(smollm2.num_parameters(), 134_515_008);
    assert_eq!((smollm2.head_dim, smollm2.rope.rope_theta), (64, 100_000.0));
    assert_eq!((smollm2.rotary_dim(), smollm2.dtype.as_deref()), (64, Some("bfloat16")));
    let qwen = parse(json!({
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "vocab_size": 151936,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "max_position_embeddings": 32768, "max_window_layers": 21, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
        "use_mrope": false, "use_sliding_window": false, "eos_token_id": 151645,
    }));
    let qwen = qwen.unwrap();
    assert_eq!(qwen.num_parameters(), 494_032_768);
    assert!(qwen.attention_bias && qwen.eos_token_ids == [151_645]);
    let qwen3 = parse(json!({
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "vocab_size": 151936,
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "head_dim": 128,
        "max_position_embeddings": 40960, "max_window_layers": 28, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000, "rope_scaling": null, "sliding_window": null, "attention_bias": false,
        "tie_word_embeddings": true, "use_sliding_window": false, "eos_token_id": 151645,
    }));
    let qwen3 = qwen3.unwrap();
    assert_eq!((qwen3.num_parameters(), qwen3.query_size()), (596_049_920, 2048));
    let mistral = |window: Value| {
        parse(json!({ "model_type": "mistral", "num_key_value_heads": 2, "sliding_window": window,
                      "max_position_embeddings": 32768 }))
    };
    assert_eq!(mistral(Value::Null).unwrap().num_key_value_heads, 2);
    assert!(mistral(json!(32768)).is_ok());
    let error = mistral(json!(4096)).unwrap_err();
    assert_eq!(error.key(), Some("sliding_window"));
}

#[test]
fn what_a_file_leaves_out_is_what_transformers_has() {
    let llama = parse(json!({})).unwrap();
    assert_eq!((llama.num_key_value_heads, llama.head_dim), (4, 16));
    assert_eq!((llama.vocab_size, llama.max_position_embeddings), (32_000, 2048));
    assert_eq!((llama.rope.rope_theta, llama.rms_norm_eps), (10_000.0, 1e-6));
    assert!(!llama.attention_bias && !llama.tie_word_embeddings && llama.eos_token_ids.is_empty());
    let qwen3 = parse(json!({ "model_type": "qwen3", "num_key_value_heads": null })).unwrap();
    assert_eq!((qwen3.head_dim, qwen3.num_key_value_heads, qwen3.attention_bias), (128, 4, false));
    let wide = parse(json!({ "head_dim": 24, "num_key_value_heads": null })).unwrap();
    assert_eq!((wide.head_dim, wide.num_key_value_heads), (24, 4));
    let yarn = parse(json!({ "model_type": "qwen2", "num_key_value_heads": 2, "rope_scaling":
        { "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768 } }));
    let yarn = yarn.unwrap();
    assert!(matches!(yarn.rope.scaling, RopeScaling::Yarn { factor: 4.0, .. }));
    assert_eq!(yarn.context_length(), 131_072);
    // transformers has 4096 for Mistral, which its longest context is longer than.
    let error = parse(json!({ "model_type": "mistral", "num_key_value_heads": 2 })).unwrap_err();
    assert_eq!(error.key(), Some("sliding_window"));
}

#[test]
fn what_the_decoder_computes_otherwise_is_refused_by_name() {
    let window = json!({ "model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": true,
                         "sliding_window": 1024, "max_window_layers": 4 });
    let listed = json!({ "layer_types": ["full_attention", "linear_attention"] });
    let cases = [
        ("hidden_act", json!({ "hidden_act": "gelu" })),
        ("mlp_bias", json!({ "mlp_bias": true })),
        ("partial_rotary_factor", json!({ "partial_rotary_factor": 0.5 })),
        ("num_local_experts", json!({ "num_local_experts": 8 })),
        ("sliding_window", window),
        ("layer_types", listed),
        ("rope_scaling.rope_type", json!({ "rope_scaling": { "rope_type": "longrope" } })),
        ("model_type", json!({ "model_type": "qwen3_moe" })),
        ("num_experts", json!({ "model_type": "qwen3", "num_experts": 8 })),
        ("model_type", json!({ "model_type": "mixtral" })),
        ("num_key_value_heads", json!({ "num_key_value_heads": 3 })),
        ("head_dim", json!({ "hidden_size": 65 })),
        ("head_dim", json!({ "head_dim": 0 })),
    ];
    for (key, fields) in cases {
        let error = parse(fields.clone()).unwrap_err();
        assert_eq!(error.key(), Some(key), "{fields}: {error}");
    }
    // All layers are before those with a window.
    let whole = json!({ "model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": true,
                        "sliding_window": 1024, "max_window_layers": 32 });
    assert!(parse(whole).is_ok());
}

#[test]
fn tensors_of_chatglm_are_rows_of_the_file() {
    let checkpoint = Checkpoint::open(&folder("chatglm")).unwrap();
    let source = checkpoint.weights();
    check_weight_source(source);
    let bytes = fs::read(folder("chatglm").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let layer = "transformer.encoder.layers.1.self_attention";
    for kind in ["weight", "bias"] {
        let parts = ["q", "k", "v"].map(|part| {
            let name = format!("model.layers.1.self_attn.{part}_proj.{kind}");
            let stored = source.stored(&name).unwrap();
            let view = source.tensor(&name).unwrap();
            assert_eq!((stored.parts.concat(), stored.shape), (view.bytes.to_vec(), view.shape));
            view.bytes.to_vec()
        });
        let fused = file.tensor(&format!("{layer}.query_key_value.{kind}")).unwrap();
        assert_eq!(parts.concat(), fused.data());
    }
    let stored = checkpoint.stored_dtypes().unwrap();
    // And rotary_pos_emb.inv_freq, which is not read.
    assert_eq!(stored["BF16"].parameters, checkpoint.config().num_parameters() + 2);
}

#[test]
fn weights_of_chatglm_that_do_not_fit_are_named() {
    let refused = |fields: Value, change: Change| {
        let out = changed("chatglm", &fields, change);
        let loaded = Checkpoint::open(out.path())
            .and_then(|found| found.load::<Flex>(LoadPrecision::Stored, &FlexDevice));
        loaded.map(|_| ()).unwrap_err().to_string()
    };
    let keep = |_: &str, _: &mut Vec<u8>| None;
    let error = refused(json!({}), |name, bytes| {
        name.ends_with("1.mlp.dense_4h_to_h.weight").then(|| bytes.clear()).map(|()| vec![0])
    });
    assert!(
        error.contains("`transformer.encoder.layers.1.mlp.dense_4h_to_h.weight` is missing"),
        "{error}"
    );
    let error = refused(json!({ "multi_query_group_num": 4 }), keep);
    assert!(error.contains("query_key_value") && error.contains("[96, 16]"), "{error}");
    let error = refused(json!({ "add_qkv_bias": false }), keep);
    assert!(error.contains("unexpected tensors"), "{error}");
    let error = refused(json!({ "num_layers": 1 }), keep);
    assert!(error.contains("unexpected tensors"), "{error}");
    let error = refused(json!({}), |name, bytes| {
        name.ends_with("output_layer.weight").then(|| bytes.clear()).map(|()| vec![0])
    });
    assert!(error.contains("`transformer.output_layer.weight` is missing"), "{error}");
}

/// glm-4-9b-chat's own file, shortened by what changes nothing.
const GLM_4_9B_CHAT: &str = r#"{ "model_type": "chatglm", "architectures": ["ChatGLMModel"],
    "add_bias_linear": false, "add_qkv_bias": true, "ffn_hidden_size": 13696, "hidden_size": 4096,
    "kv_channels": 128, "layernorm_epsilon": 1.5625e-07, "multi_query_attention": true,
    "multi_query_group_num": 2, "num_attention_heads": 32, "num_hidden_layers": 40, "num_layers": 40,
    "original_rope": true, "padded_vocab_size": 151552, "post_layer_norm": true, "rmsnorm": true,
    "rope_ratio": 500, "seq_length": 131072, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "apply_residual_connection_post_layernorm": false, "attention_dropout": 0.0, "pre_seq_len": null,
    "eos_token_id": [151329, 151336, 151338], "pad_token_id": 151329 }"#;

#[test]
fn chatglm_is_read_or_refused_by_name() {
    let parse = |fields: Value| {
        let mut config: Value = serde_json::from_str(GLM_4_9B_CHAT).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            config[key] = value.clone();
        }
        GlmConfig::from_json(config.to_string())
    };
    let chat = parse(json!({})).unwrap();
    assert_eq!(chat.num_parameters(), 9_399_951_360);
    assert_eq!((chat.rotary_dim(), chat.rope.rope_theta), (64, 5_000_000.0));
    assert_eq!((chat.context_length(), chat.rms_norm_eps), (131_072, 1.5625e-7));
    assert_eq!(chat.eos_token_ids, [151_329, 151_336, 151_338]);
    let yarn =
        json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 131_072 });
    assert_eq!(parse(json!({ "rope_scaling": yarn })).unwrap().context_length(), 524_288);
    for (key, fields) in [
        ("rmsnorm", json!({ "rmsnorm": false })),
        ("post_layer_norm", json!({ "post_layer_norm": false })),
        (
            "apply_residual_connection_post_layernorm",
            json!({ "apply_residual_connection_post_layernorm": true }),
        ),
        ("add_bias_linear", json!({ "add_bias_linear": true })),
        ("original_rope", json!({ "original_rope": false })),
        ("multi_query_attention", json!({ "multi_query_attention": false })),
        ("multi_query_attention", json!({ "multi_query_attention": null })),
        ("pre_seq_len", json!({ "pre_seq_len": 128 })),
        ("quantization_bit", json!({ "quantization_bit": 4 })),
        ("vision_config", json!({ "vision_config": {} })),
        ("architectures", json!({ "architectures": ["ChatGLMForSequenceClassification"] })),
        ("position_encoding_2d", json!({ "position_encoding_2d": true })),
        ("rope_ratio", json!({ "rope_ratio": 0 })),
        ("rope_ratio", json!({ "padded_vocab_size": 65024, "eos_token_id": 2, "pad_token_id": 0 })),
        ("rope_theta", json!({ "rope_theta": 1e6 })),
        ("partial_rotary_factor", json!({ "partial_rotary_factor": 1.0 })),
        ("num_key_value_heads", json!({ "multi_query_group_num": 5 })),
        (
            "quantization_config.quant_method",
            json!({ "quantization_config": { "quant_method": "gptq" } }),
        ),
    ] {
        let error = parse(fields.clone()).unwrap_err();
        assert_eq!(error.key(), Some(key), "{fields}: {error}");
    }
}
