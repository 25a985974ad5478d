//! Models in several GGUF files, and Qwen's, whose rows come in another order.

use std::path::{Path, PathBuf};

use lightglm_core::WeightSource;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::weights::{SafetensorsCheckpoint, check_tensors};

use crate::gguf_builder::{Builder, floats, model, typed};
use crate::parse;

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
    assert_eq!(Checkpoint::open(folder.path()).unwrap().path(), paths[0]);
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
    let error = refused(&|paths| assert!(std::fs::copy(&paths[2], &paths[1]).is_ok()));
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
