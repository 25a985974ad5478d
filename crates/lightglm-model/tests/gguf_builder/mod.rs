//! GGUF files put together key by key and tensor by tensor.

use bytes::Bytes;
use lightglm_core::{WeightDtype, WeightSource};
use lightglm_model::weights::{GgufCheckpoint, GgufFile};

/// Puts a GGUF file together.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    pub(crate) keys: Vec<(String, Vec<u8>)>,
    /// Name, dimensions outermost first, type number, data.
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn typed(number: u32, value: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], value].concat()
}

pub(crate) fn strings(values: &[&str]) -> Vec<u8> {
    let mut bytes = typed(9, &8u32.to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| bytes.extend(string(value)));
    bytes
}

impl Builder {
    pub(crate) fn key(mut self, key: &str, value: Vec<u8>) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.into(), value));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.tensors.retain(|(other, ..)| other != key);
        self
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.key(key, typed(8, &string(value)))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, typed(4, &value.to_le_bytes()))
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.key(key, typed(6, &value.to_le_bytes()))
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], number: u32, data: Vec<u8>) -> Self {
        self.tensors.push((name.into(), shape.into(), number, data));
        self
    }

    /// An f32 tensor that counts up from `first`.
    pub(crate) fn counting(self, name: &str, shape: &[u64], first: f32) -> Self {
        let n: u64 = shape.iter().product();
        let data = (0..n).flat_map(|i| (first + i as f32).to_le_bytes()).collect();
        self.tensor(name, shape, 0, data)
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        self.build_version(3)
    }

    pub(crate) fn build_version(&self, version: u32) -> Vec<u8> {
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

    pub(crate) fn checkpoint(&self) -> GgufCheckpoint {
        GgufCheckpoint::new(GgufFile::from_bytes(Bytes::from(self.build())).unwrap())
    }
}

/// A model of one block: D 4, 2 heads and 1 kv head of 2, F 3, V 5.
pub(crate) fn model(architecture: &str) -> Builder {
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

pub(crate) fn floats(source: &dyn WeightSource, name: &str) -> Vec<f32> {
    let view = source.tensor(name).unwrap();
    assert_eq!(view.dtype, WeightDtype::F32);
    assert_eq!(Some(view.shape), source.shape(name));
    view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
