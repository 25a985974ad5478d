//! What a step must read, and what a prompt must compute.

use lightglm_core::{KV_BLOCK, KvDtype, KvShape};
use lightglm_model::config::GlmConfig;

use crate::model::EXACT_LAYERS;

/// Bytes of keys, values and bounds that a decoded token reads at `positions` positions, where `budget`
/// limits how many of them.
pub fn kv_bytes_read(
    config: &GlmConfig,
    dtype: KvDtype,
    budget: Option<usize>,
    positions: usize,
) -> usize {
    let a_position = KvShape::of(config).bytes_per_position(dtype);
    let exact = positions * a_position;
    let Some(budget) = budget.filter(|budget| *budget < positions) else {
        return exact;
    };
    let layers = config.num_hidden_layers;
    let heads = config.head_dim * config.num_key_value_heads;
    let bounds = 2 * 4 * heads * positions.div_ceil(KV_BLOCK);
    let selected = budget * a_position / layers + bounds;
    let few = EXACT_LAYERS.min(layers);
    exact / layers * few + selected * (layers - few)
}

/// Multiplications and additions of a prompt of `tokens` tokens: projections, attention, the last row's
/// head.
pub fn prefill_flops(config: &GlmConfig, tokens: usize) -> f64 {
    let c = config;
    let (t, d) = (tokens as f64, c.hidden_size as f64);
    let q = (c.num_attention_heads * c.head_dim) as f64;
    let kv = (c.num_key_value_heads * c.head_dim) as f64;
    let projections = d * (2.0 * q + 2.0 * kv + 3.0 * c.intermediate_size as f64);
    let attention = 4.0 * q * t * (t + 1.0) / 2.0;
    let layers = c.num_hidden_layers as f64 * (2.0 * projections * t + attention);
    layers + 2.0 * d * c.vocab_size as f64
}
