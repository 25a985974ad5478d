//! GGUF: metadata, dequantization, the translation to GLM's names, and files that lie.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::{WeightDtype, WeightError, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{ConfigError, GlmConfig, ModelType, RopeScaling};
use lightglm_model::weights::{
    GgufArray, GgufCheckpoint, GgufFile, GgufValue, SafetensorsCheckpoint, check_tensors,
};

/// Puts a GGUF file together.
#[derive(Clone, Default)]
struct Builder {
    keys: Vec<(String, Vec<u8>)>,
    /// Name, dimensions outermost first, type number, data.
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn typed(number: u32, value: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], value].concat()
}

fn strings(values: &[&str]) -> Vec<u8> {
    let mut bytes = typed(9, &8u32.to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| bytes.extend(string(value)));
    bytes
}

impl Builder {
    fn key(mut self, key: &str, value: Vec<u8>) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.into(), value));
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.tensors.retain(|(other, ..)| other != key);
        self
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.key(key, typed(8, &string(value)))
    }

    fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, typed(4, &value.to_le_bytes()))
    }

    fn f32(self, key: &str, value: f32) -> Self {
        self.key(key, typed(6, &value.to_le_bytes()))
    }

    fn tensor(mut self, name: &str, shape: &[u64], number: u32, data: Vec<u8>) -> Self {
        self.tensors.push((name.into(), shape.into(), number, data));
        self
    }

    /// An f32 tensor that counts up from `first`.
    fn counting(self, name: &str, shape: &[u64], first: f32) -> Self {
        let n: u64 = shape.iter().product();
        let data = (0..n).flat_map(|i| (first + i as f32).to_le_bytes()).collect();
        self.tensor(name, shape, 0, data)
    }

    fn build(&self) -> Vec<u8> {
        self.build_version(3)
    }

    fn build_version(&self, version: u32) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(string(key));
            out.extend(value);
        }
        let mut data = Vec::new();
        for (name, shape, number, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0u8);
            out.extend(string(name));
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(number.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    fn checkpoint(&self) -> GgufCheckpoint {
        GgufCheckpoint::new(GgufFile::from_bytes(Bytes::from(self.build())).unwrap())
    }
}

fn parse(bytes: Vec<u8>) -> Result<GgufFile, WeightError> {
    GgufFile::from_bytes(Bytes::from(bytes))
}

/// A model of one block: D 4, 2 heads and 1 kv head of 2, F 3, V 5.
fn model(architecture: &str) -> Builder {
    let key = |name: &str| format!("{architecture}.{name}");
    let builder = Builder::default()
        .text("general.architecture", architecture)
        .u32(&key("embedding_length"), 4)
        .u32(&key("block_count"), 1)
        .u32(&key("context_length"), 64)
        .u32(&key("feed_forward_length"), 3)
        .u32(&key("attention.head_count"), 2)
        .u32(&key("attention.head_count_kv"), 1)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("rope.freq_base"), 5000.0)
        .key("tokenizer.ggml.tokens", strings(&["a", "b", "c", "d", "e"]))
        .u32("tokenizer.ggml.eos_token_id", 4)
        .u32("tokenizer.ggml.eot_token_id", 3)
        .counting("token_embd.weight", &[5, 4], 0.0)
        .counting("output_norm.weight", &[4], 20.0)
        .counting("output.weight", &[5, 4], 30.0)
        .counting("blk.0.attn_norm.weight", &[4], 50.0)
        .counting("blk.0.ffn_norm.weight", &[4], 60.0)
        .counting("blk.0.attn_output.weight", &[4, 4], 70.0)
        .counting("blk.0.ffn_down.weight", &[4, 3], 90.0);
    match architecture {
        "llama" => builder
            .counting("blk.0.attn_q.weight", &[4, 4], 110.0)
            .counting("blk.0.attn_k.weight", &[2, 4], 130.0)
            .counting("blk.0.attn_v.weight", &[2, 4], 140.0)
            .counting("blk.0.ffn_gate.weight", &[3, 4], 200.0)
            .counting("blk.0.ffn_up.weight", &[3, 4], 300.0),
        "glm4" => builder
            .counting("blk.0.attn_q.weight", &[4, 4], 110.0)
            .counting("blk.0.attn_k.weight", &[2, 4], 130.0)
            .counting("blk.0.attn_v.weight", &[2, 4], 140.0)
            .counting("blk.0.attn_q.bias", &[4], 150.0)
            .counting("blk.0.attn_k.bias", &[2], 160.0)
            .counting("blk.0.attn_v.bias", &[2], 170.0)
            .counting("blk.0.post_attention_norm.weight", &[4], 180.0)
            .counting("blk.0.post_ffw_norm.weight", &[4], 190.0)
            .counting("blk.0.ffn_up.weight", &[6, 4], 200.0),
        _ => builder
            .counting("blk.0.attn_qkv.weight", &[8, 4], 110.0)
            .counting("blk.0.attn_qkv.bias", &[8], 150.0)
            .counting("blk.0.ffn_up.weight", &[6, 4], 200.0),
    }
}

fn floats(source: &dyn WeightSource, name: &str) -> Vec<f32> {
    let view = source.tensor(name).unwrap();
    assert_eq!(view.dtype, WeightDtype::F32);
    assert_eq!(Some(view.shape), source.shape(name));
    view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
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

/// The files of `builder`'s model, as `gguf-split` writes them: part `no` has the tensors of `parts[no]`.
fn split(builder: &Builder, parts: &[&[&str]]) -> Vec<Vec<u8>> {
    let u16 = |value: usize| typed(2, &(value as u16).to_le_bytes());
    let total = builder.tensors.len() as i32;
    let part = |(no, names): (usize, &&[&str])| {
        let mut file = match no {
            0 => Builder { tensors: Vec::new(), ..builder.clone() },
            _ => Builder::default(),
        };
        let chosen = builder.tensors.iter().filter(|(name, ..)| names.contains(&&name[..]));
        file.tensors.extend(chosen.cloned());
        file.key("split.no", u16(no))
            .key("split.count", u16(parts.len()))
            .key("split.tensors.count", typed(5, &total.to_le_bytes()))
            .build()
    };
    parts.iter().enumerate().map(part).collect()
}

fn write_parts(folder: &Path, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    let path = |no: usize| folder.join(format!("m-{:05}-of-{:05}.gguf", no + 1, parts.len()));
    let paths: Vec<PathBuf> = (0..parts.len()).map(path).collect();
    paths.iter().zip(parts).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    paths
}

#[test]
fn a_model_in_several_files() {
    let whole = model("llama");
    let names: Vec<&str> = whole.tensors.iter().map(|(name, ..)| &name[..]).collect();
    let folder = tempfile::tempdir().unwrap();
    // The first part has no tensors, the head stands in the last one.
    let parts = split(&whole, &[&[], &names[3..], &names[..3]]);
    let paths = write_parts(folder.path(), &parts);
    for path in paths.iter().map(PathBuf::as_path).chain([folder.path()]) {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert!(!checkpoint.config().tie_word_embeddings);
        assert_eq!(checkpoint.config(), &whole.checkpoint().config().unwrap());
        check_tensors(checkpoint.weights(), checkpoint.config(), path).unwrap();
        for name in whole.checkpoint().names() {
            let expected = floats(&whole.checkpoint(), &name);
            assert_eq!(floats(checkpoint.weights(), &name), expected, "{name}");
        }
        let stored = checkpoint.stored_dtypes().unwrap();
        assert_eq!(stored["F32"].tensors, names.len());
    }
    // Another model beside it makes the folder a question, and no part of it.
    std::fs::write(folder.path().join("other.gguf"), whole.build()).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("m-00001-of-00003.gguf, other.gguf"), "{error}");
    assert!(Checkpoint::open(&paths[0]).is_ok());
}

#[test]
fn parts_that_are_missing_or_contradict_each_other_are_named() {
    let whole = model("llama");
    let names: Vec<&str> = whole.tensors.iter().map(|(name, ..)| &name[..]).collect();
    let parts = split(&whole, &[&names[..4], &names[4..7], &names[7..]]);
    let refused = |change: &dyn Fn(&[PathBuf])| {
        let folder = tempfile::tempdir().unwrap();
        let paths = write_parts(folder.path(), &parts);
        change(&paths);
        let first = paths.iter().find(|path| path.exists()).unwrap();
        Checkpoint::open(first).unwrap_err().to_string()
    };
    for (gone, part) in [(0, "part 1 of 3"), (1, "part 2 of 3"), (2, "part 3 of 3")] {
        let error = refused(&|paths| std::fs::remove_file(&paths[gone]).unwrap());
        let name = format!("m-{:05}-of-00003.gguf: {part} of the model is missing", gone + 1);
        assert!(error.contains(&name), "{error}");
    }
    let error = refused(&|paths| {
        for path in &paths[1..] {
            std::fs::remove_file(path).unwrap();
        }
        std::fs::rename(&paths[0], paths[0].with_file_name("renamed.gguf")).unwrap();
        std::fs::copy(paths[0].with_file_name("renamed.gguf"), &paths[0]).unwrap();
        std::fs::rename(&paths[0], &paths[2]).unwrap();
    });
    assert!(error.contains("part 1 of 3") && error.contains("not called NAME-00001-of"), "{error}");
    let error = refused(&|paths| drop(std::fs::copy(&paths[2], &paths[1]).unwrap()));
    assert!(error.contains("m-00002-of-00003.gguf"), "{error}");
    assert!(error.contains("part 3 of 3, its name says part 2 of 3"), "{error}");
    let error = refused(&|paths| std::fs::write(&paths[1], whole.build()).unwrap());
    assert!(error.contains("it says nothing of parts, its name says part 2 of 3"), "{error}");
    let twice = split(&whole, &[&names[..4], &names[3..7], &names[7..]]);
    let error = refused(&|paths| std::fs::write(&paths[1], &twice[1]).unwrap());
    assert!(error.contains(&format!("tensor `{}` stands in a part before", names[3])), "{error}");
    let fewer = split(&whole, &[&names[..4], &names[4..6], &names[7..]]);
    let error = refused(&|paths| std::fs::write(&paths[1], &fewer[1]).unwrap());
    let says =
        format!("have {} tensors, `split.tensors.count` says {}", names.len() - 1, names.len());
    assert!(error.contains(&says), "{error}");
    let error = parse(parts[1].clone()).unwrap_err().to_string();
    assert!(error.contains("part 2 of 3"), "{error}");
    // Whatever byte of a part lies, there is an answer.
    let folder = tempfile::tempdir().unwrap();
    let paths = write_parts(folder.path(), &parts);
    for at in 0..parts[1].len().min(400) {
        for flipped in [1, 0x80] {
            let mut bytes = parts[1].clone();
            bytes[at] ^= flipped;
            std::fs::write(&paths[1], bytes).unwrap();
            let _ = Checkpoint::open(&paths[0]).map(|found| found.stored_dtypes());
        }
    }
}

/// A folder's tensors under llama.cpp's names, which keeps the rows of a Qwen as they are, are read as the
/// folder is; in blocks as well.
#[test]
fn a_qwen_is_read_as_its_folder() {
    for name in ["qwen2", "qwen3"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama").join(name);
        let folder = Checkpoint::open(&folder).unwrap();
        let config = folder.config();
        let raw = SafetensorsCheckpoint::open(folder.path()).unwrap();
        let key = |rest: &str| format!("{name}.{rest}");
        let mut builder = Builder::default()
            .text("general.architecture", name)
            .u32(&key("embedding_length"), config.hidden_size as u32)
            .u32(&key("block_count"), config.num_hidden_layers as u32)
            .u32(&key("context_length"), config.max_position_embeddings as u32)
            .u32(&key("feed_forward_length"), config.intermediate_size as u32)
            .u32(&key("attention.head_count"), config.num_attention_heads as u32)
            .u32(&key("attention.head_count_kv"), config.num_key_value_heads as u32)
            .u32(&key("attention.key_length"), config.head_dim as u32)
            .f32(&key("attention.layer_norm_rms_epsilon"), config.rms_norm_eps as f32)
            .f32(&key("rope.freq_base"), config.rope.rope_theta as f32);
        for tensor in raw.names() {
            let view = raw.tensor(&tensor).unwrap();
            let shape: Vec<u64> = view.shape.iter().map(|&n| n as u64).collect();
            builder = builder.tensor(&llama_cpp_name(&tensor), &shape, 30, view.bytes.to_vec());
        }
        let gguf = builder.checkpoint();
        let found = gguf.config().unwrap();
        assert_eq!(found.model_type, config.model_type);
        assert_eq!(found.tensor_shapes(), config.tensor_shapes());
        assert_eq!(gguf.adapter_layout().unwrap(), folder.adapter_layout());
        check_tensors(&gguf, &found, Path::new(name)).unwrap();
        for tensor in folder.weights().names() {
            let (ours, theirs) = (gguf.tensor(&tensor).unwrap(), folder.weights().tensor(&tensor));
            assert_eq!(ours.bytes, theirs.unwrap().bytes, "{name}: {tensor}");
            let stored = gguf.stored(&tensor).unwrap();
            assert_eq!(stored.parts.concat(), ours.bytes, "{name}: {tensor}");
        }
        // Rows of one Q8_0 block each, whose codes count rows.
        let rows = (config.num_attention_heads * config.head_dim) as u64;
        let block = |row: u64| [&0x3c00u16.to_le_bytes()[..], &[row as u8; 32]].concat();
        let blocks = builder
            .without("blk.0.attn_q.weight")
            .tensor("blk.0.attn_q.weight", &[rows, 32], 8, (0..rows).flat_map(block).collect())
            .checkpoint();
        let values = floats(&blocks, "model.layers.0.self_attn.q_proj.weight");
        let of_rows: Vec<f32> = values.iter().copied().step_by(32).collect();
        assert_eq!(of_rows[..10], [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 8.0, 12.0]);
        assert_eq!(
            blocks.stored("model.layers.0.self_attn.q_proj.weight").unwrap().parts.len(),
            32
        );
    }
}

fn llama_cpp_name(name: &str) -> String {
    let Some((layer, rest)) =
        name.strip_prefix("model.layers.").and_then(|name| name.split_once('.'))
    else {
        let names = [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm")];
        let names = names.into_iter().chain([("lm_head", "output")]);
        return names.fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    };
    let rest = [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ]
    .into_iter()
    .fold(rest.to_owned(), |rest, (from, to)| rest.replace(from, to));
    format!("blk.{layer}.{rest}")
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
    let divided = config(model("llama").counting("rope_freqs.weight", &[pairs as u64], 2.0));
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
    let refused = [
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
