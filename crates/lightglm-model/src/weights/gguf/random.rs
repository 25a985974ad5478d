//! GGUF files of random weights, for tests and benchmarks.
//!
//! Source: ggml's `docs/gguf.md`; llama.cpp's `gguf-py/gguf/constants.py` (keys).

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use lightglm_core::{WeightDtype, WeightError, temporary_in};
use rayon::prelude::*;

use super::ggml_type::GgmlType;
use crate::config::{GlmConfig, ModelType, RopeScaling};
use crate::weights::seeded::{CHUNK, SeededWeights};

/// Elements generated before they are written: all the memory that writing takes.
const BATCH: usize = 64 * CHUNK;
/// Elements of a block of the types that are written.
const BLOCK: usize = 32;
/// Where tensors begin, in bytes.
const ALIGNMENT: usize = 32;
/// Tokens that stand for bytes.
const BYTE_TOKENS: usize = 256;

/// The types whose blocks [`write_random_gguf`] writes.
pub const RANDOM_GGUF_TYPES: [GgmlType; 2] = [GgmlType::Q4_0, GgmlType::Q8_0];

/// Writes the weights of [`SeededWeights`] as the GGUF file `file`: matrices in blocks of `ggml_type`,
/// one of [`RANDOM_GGUF_TYPES`], rounded as ggml rounds them, the rest in f32. The vocabulary is one of
/// bytes, filled up with tokens without a text. Weights are generated as they are written.
///
/// `progress` is told the elements written since it was last called, and may break off: nothing
/// unfinished stays behind then.
///
/// # Errors
/// [`WeightError::UnsupportedDtype`] for another type; [`WeightError::Malformed`] for a configuration
/// that the file cannot say, or whose rows are no whole blocks; [`WeightError::Io`], with
/// [`io::ErrorKind::Interrupted`] where `progress` broke off.
pub fn write_random_gguf(
    file: impl AsRef<Path>,
    config: &GlmConfig,
    ggml_type: GgmlType,
    seed: u64,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), WeightError> {
    let file = file.as_ref();
    if !RANDOM_GGUF_TYPES.contains(&ggml_type) {
        let (file, dtype) = (file.into(), ggml_type.name().to_owned());
        return Err(WeightError::UnsupportedDtype { file, name: "*.weight".into(), dtype });
    }
    let malformed = |reason| WeightError::Malformed { file: file.into(), format: "GGUF", reason };
    let tensors = tensors(config, ggml_type).map_err(malformed)?;
    let head = head(config, &tensors).map_err(malformed)?;
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, seed);
    let mut write = || -> io::Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut out = temporary_in(folder)?;
        let mut at = head.len();
        out.write_all(&head)?;
        for tensor in &tensors {
            out.write_all(&vec![0; at.next_multiple_of(ALIGNMENT) - at])?;
            at = at.next_multiple_of(ALIGNMENT) + tensor.bytes();
            for first in (0..tensor.elements()).step_by(BATCH) {
                let count = BATCH.min(tensor.elements() - first);
                let mut bytes = vec![0; count * size_of::<f32>()];
                weights.fill(&tensor.name, &tensor.shape, first, &mut bytes);
                out.write_all(&match tensor.ggml_type {
                    GgmlType::F32 => bytes,
                    blocks => round(&bytes, blocks),
                })?;
                if progress(count as u64).is_break() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        out.as_file().sync_all()?;
        out.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| WeightError::Io { file: file.into(), source })
}

/// A tensor that is to be written.
struct Tensor {
    /// As Hugging Face calls it.
    name: String,
    /// As llama.cpp does.
    gguf_name: String,
    shape: Vec<usize>,
    ggml_type: GgmlType,
}

impl Tensor {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.elements() / self.ggml_type.block_elements() * self.ggml_type.block_bytes()
    }
}

fn tensors(config: &GlmConfig, blocks: GgmlType) -> Result<Vec<Tensor>, String> {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let ggml_type = if shape.len() == 2 { blocks } else { GgmlType::F32 };
        let row = shape.last().copied().unwrap_or(1);
        if row % ggml_type.block_elements() != 0 {
            return Err(format!("`{name}`: rows of {row} are no whole blocks of {BLOCK}"));
        }
        let gguf_name = gguf_name(&name).ok_or_else(|| format!("`{name}` has no name in GGUF"))?;
        Ok(Tensor { name, gguf_name, shape, ggml_type })
    };
    config.tensor_shapes().into_iter().map(tensor).collect()
}

/// Source: llama.cpp's `gguf-py/gguf/tensor_mapping.py`.
fn gguf_name(name: &str) -> Option<String> {
    let Some(rest) = name.strip_prefix("model.layers.") else {
        return match name {
            "model.embed_tokens.weight" => Some("token_embd.weight".into()),
            "model.norm.weight" => Some("output_norm.weight".into()),
            "lm_head.weight" => Some("output.weight".into()),
            _ => None,
        };
    };
    let (layer, rest) = rest.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_self_attn_layernorm" => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        "post_mlp_layernorm" => "post_ffw_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// Everything before the tensors' bytes, padding included.
fn head(config: &GlmConfig, tensors: &[Tensor]) -> Result<Vec<u8>, String> {
    if config.rope.scaling != RopeScaling::None {
        return Err("the configuration stretches positions, which is not written".into());
    }
    if config.vocab_size < BYTE_TOKENS {
        let size = config.vocab_size;
        return Err(format!("a vocabulary of {size} has no room for {BYTE_TOKENS} bytes"));
    }
    let architecture = match config.model_type {
        ModelType::Glm4 => "glm4",
        ModelType::Glm => "chatglm",
        ModelType::GlmQkNorm => {
            return Err("a Qwen has rows of q and k in another order, which is not written".into());
        }
    };
    let mut keys = Keys::default();
    keys.text("general.architecture", architecture);
    keys.text("general.name", "random weights");
    let rotary = config.head_dim as f64 * config.rope.partial_rotary_factor;
    for (key, value) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", rotary as usize),
    ] {
        keys.number(&format!("{architecture}.{key}"), value)?;
    }
    keys.float(&format!("{architecture}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps);
    keys.float(&format!("{architecture}.rope.freq_base"), config.rope.rope_theta);
    keys.vocabulary(config)?;

    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(keys.count.to_le_bytes());
    bytes.extend(keys.bytes);
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut bytes, &tensor.gguf_name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        // Innermost first.
        for &size in tensor.shape.iter().rev() {
            bytes.extend((size as u64).to_le_bytes());
        }
        bytes.extend(tensor.ggml_type.number().to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(bytes)
}

/// Keys and values.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    /// Numbers of the format's types of values.
    const U32: u32 = 4;
    const I32: u32 = 5;
    const F32: u32 = 6;
    const STRING: u32 = 8;
    const ARRAY: u32 = 9;

    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key, Self::STRING);
        put_text(&mut self.bytes, text);
    }

    fn number(&mut self, key: &str, value: usize) -> Result<(), String> {
        let number = u32::try_from(value).map_err(|_| format!("`{key}`: {value} is too large"))?;
        self.key(key, Self::U32);
        self.bytes.extend(number.to_le_bytes());
        Ok(())
    }

    fn float(&mut self, key: &str, value: f64) {
        self.key(key, Self::F32);
        self.bytes.extend((value as f32).to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, Self::ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    /// Bytes in the order and the letters of byte-level BPE, one merge, and tokens without a text.
    fn vocabulary(&mut self, config: &GlmConfig) -> Result<(), String> {
        let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let mut letters: Vec<char> = (0..=255u8).filter(printable).map(char::from).collect();
        // The others get the letters from U+0100 on.
        let others = (0..=255u8).filter(|byte| !printable(byte)).count() as u32;
        letters.extend((0..others).filter_map(|i| char::from_u32(0x100 + i)));
        let mut tokens: Vec<String> = letters.into_iter().map(String::from).collect();
        tokens.extend((BYTE_TOKENS..config.vocab_size).map(|id| format!("<|unused_{id}|>")));
        const NORMAL: i32 = 1;
        const UNUSED: i32 = 5;
        self.text("tokenizer.ggml.model", "gpt2");
        self.text("tokenizer.ggml.pre", "gpt-2");
        self.array("tokenizer.ggml.tokens", Self::STRING, tokens.len());
        tokens.iter().for_each(|token| put_text(&mut self.bytes, token));
        self.array("tokenizer.ggml.token_type", Self::I32, tokens.len());
        for id in 0..tokens.len() {
            let kind = if id < BYTE_TOKENS { NORMAL } else { UNUSED };
            self.bytes.extend(kind.to_le_bytes());
        }
        let last = tokens.len() - 1;
        for key in ["eos", "padding"] {
            self.number(&format!("tokenizer.ggml.{key}_token_id"), last)?;
        }
        Ok(())
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Little-endian f32 elements as blocks.
///
/// Source: ggml's `ggml-quants.c` (`quantize_row_q4_0_ref`, `quantize_row_q8_0_ref`).
fn round(values: &[u8], ggml_type: GgmlType) -> Vec<u8> {
    let size = ggml_type.block_bytes();
    let mut out = vec![0; values.len() / (4 * BLOCK) * size];
    let blocks = out.par_chunks_exact_mut(size).with_min_len(1024);
    blocks.zip(values.par_chunks_exact(4 * BLOCK)).for_each(|(out, bytes)| {
        let (elements, _) = bytes.as_chunks::<4>();
        let mut values = [0f32; BLOCK];
        values.iter_mut().zip(elements).for_each(|(v, bytes)| *v = f32::from_le_bytes(*bytes));
        let largest =
            values.iter().fold(0f32, |most, v| if v.abs() > most.abs() { *v } else { most });
        let (scale, inverse) = match ggml_type {
            GgmlType::Q4_0 => (largest / -8.0, -8.0 / largest),
            _ => (largest.abs() / 127.0, 127.0 / largest.abs()),
        };
        let inverse = if largest == 0.0 { 0.0 } else { inverse };
        out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        match ggml_type {
            GgmlType::Q4_0 => {
                let code = |v: f32| ((v * inverse + 8.5) as u8).min(15);
                for (i, byte) in out[2..].iter_mut().enumerate() {
                    *byte = code(values[i]) | code(values[i + BLOCK / 2]) << 4;
                }
            }
            _ => {
                for (byte, value) in out[2..].iter_mut().zip(values) {
                    *byte = (value * inverse).round() as i8 as u8;
                }
            }
        }
    });
    out
}
