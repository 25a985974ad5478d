//! llama.cpp's tensor names in Hugging Face's terms.
//!
//! Source: llama.cpp's `gguf-py/gguf/tensor_mapping.py` and `src/llama-arch.cpp`.

use std::collections::BTreeMap;

use super::file::GgufFile;

/// The GGUF architectures that are a GLM decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama and Mistral: the `glm` decoder with whole heads rotated. GGUF has the rows of q and k in
    /// the interleaved order that GLM uses.
    Llama,
    /// The same, with biases; GGUF has the rows of q and k as Hugging Face's folders have them.
    Qwen2,
    /// As `Qwen2`, with norms of heads instead of biases.
    Qwen3,
    /// GLM-4-0414.
    Glm4,
    /// GLM-4 of 2024.
    ChatGlm,
}

impl Architecture {
    pub(super) const SUPPORTED: &'static str = "llama, qwen2, qwen3, glm4, chatglm";

    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "llama" => Some(Self::Llama),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            "glm4" => Some(Self::Glm4),
            "chatglm" => Some(Self::ChatGlm),
            _ => None,
        }
    }
}

/// Where a tensor comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// One tensor of the file.
    Whole(String),
    /// Rows of one tensor of the file.
    Rows(String, std::ops::Range<usize>),
    /// The rows of two tensors of the file, one after the other.
    Stacked(String, String),
}

/// Rows of q, k and v in a fused projection.
#[derive(Clone, Copy, Debug)]
pub(super) struct QkvRows {
    pub(super) query: usize,
    pub(super) key_value: usize,
}

/// The origin of each tensor by its Hugging Face name. What has no such name keeps its own, so that
/// it is found to be unexpected instead of overlooked.
pub(super) fn translate(file: &GgufFile, qkv: Option<QkvRows>) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    for name in file.tensors().keys() {
        let whole = Origin::Whole(name.clone());
        match name.as_str() {
            "token_embd.weight" => drop(origins.insert("model.embed_tokens.weight".into(), whole)),
            "output_norm.weight" => drop(origins.insert("model.norm.weight".into(), whole)),
            // Part of the configuration: what frequencies are divided by.
            "rope_freqs.weight" => {}
            "output.weight" => drop(origins.insert("lm_head.weight".into(), whole)),
            _ => match layer_and_rest(name) {
                Some((layer, rest)) => {
                    let prefix = format!("model.layers.{layer}.");
                    let translated = translate_layer(file, name, layer, rest, qkv);
                    origins.extend(translated.into_iter().map(|(rest, origin)| match rest {
                        Some(rest) => (format!("{prefix}{rest}"), origin),
                        None => (name.clone(), origin),
                    }));
                }
                None => drop(origins.insert(name.clone(), whole)),
            },
        }
    }
    origins
}

/// `blk.7.attn_q.weight` is `7` and `attn_q.weight`.
fn layer_and_rest(name: &str) -> Option<(&str, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    layer.bytes().all(|byte| byte.is_ascii_digit()).then_some((layer, rest))
}

/// The tensors that `name` becomes; `None` for one that has no Hugging Face name.
fn translate_layer(
    file: &GgufFile,
    name: &str,
    layer: &str,
    rest: &str,
    qkv: Option<QkvRows>,
) -> Vec<(Option<String>, Origin)> {
    let whole = |rest: &str| vec![(Some(rest.to_owned()), Origin::Whole(name.to_owned()))];
    match (rest, qkv) {
        ("attn_norm.weight", _) => whole("input_layernorm.weight"),
        // GLM names the norm after attention by its place, and the one before the feed-forward by
        // the place it has without the other.
        ("post_attention_norm.weight", _) => whole("post_self_attn_layernorm.weight"),
        ("ffn_norm.weight", _) => whole("post_attention_layernorm.weight"),
        ("post_ffw_norm.weight", _) => whole("post_mlp_layernorm.weight"),
        ("attn_q.weight", _) => whole("self_attn.q_proj.weight"),
        ("attn_k.weight", _) => whole("self_attn.k_proj.weight"),
        ("attn_v.weight", _) => whole("self_attn.v_proj.weight"),
        ("attn_q.bias", _) => whole("self_attn.q_proj.bias"),
        ("attn_k.bias", _) => whole("self_attn.k_proj.bias"),
        ("attn_v.bias", _) => whole("self_attn.v_proj.bias"),
        ("attn_q_norm.weight", _) => whole("self_attn.q_norm.weight"),
        ("attn_k_norm.weight", _) => whole("self_attn.k_norm.weight"),
        ("attn_output.weight", _) => whole("self_attn.o_proj.weight"),
        ("ffn_down.weight", _) => whole("mlp.down_proj.weight"),
        ("attn_qkv.weight" | "attn_qkv.bias", Some(QkvRows { query, key_value })) => {
            let kind = &rest["attn_qkv.".len()..];
            let ends = [0, query, query + key_value, query + 2 * key_value];
            let parts = ["q", "k", "v"].into_iter().zip(ends.windows(2));
            parts
                .map(|(part, ends)| {
                    let origin = Origin::Rows(name.to_owned(), ends[0]..ends[1]);
                    (Some(format!("self_attn.{part}_proj.{kind}")), origin)
                })
                .collect()
        }
        ("ffn_up.weight", _) => {
            let gate = format!("blk.{layer}.ffn_gate.weight");
            let origin = if file.tensors().contains_key(&gate) {
                Origin::Stacked(gate, name.to_owned())
            } else {
                Origin::Whole(name.to_owned())
            };
            vec![(Some("mlp.gate_up_proj.weight".to_owned()), origin)]
        }
        // Taken in by ffn_up.
        ("ffn_gate.weight", _)
            if file.tensors().contains_key(&format!("blk.{layer}.ffn_up.weight")) =>
        {
            Vec::new()
        }
        _ => vec![(None, Origin::Whole(name.to_owned()))],
    }
}
