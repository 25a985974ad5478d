//! Page selection in plain burn operations.
//!
//! Shapes: `G` kv heads, `d` head_dim, `n` pages of a span.

use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{KV_BLOCK, SelectedKvLayer};

use super::indices;
use crate::cpu::{AttentionShape, AttentionSpan};

/// Takes `k: [n, G, d]` into the bounds of a block, from position `offset` of the block on.
pub(super) fn extend<B: Backend>(
    k: Tensor<B, 3>,
    layer: &mut SelectedKvLayer<B>,
    block: usize,
    offset: usize,
) {
    let [_, g, d] = k.dims();
    let at = [block..block + 1, 0..g, 0..2, 0..d];
    let mut least = k.clone().min_dim(0).reshape([1, g, 1, d]);
    let mut most = k.max_dim(0).reshape([1, g, 1, d]);
    if offset > 0 {
        let old = layer.bounds.clone().slice(at.clone());
        least = least.min_pair(old.clone().narrow(2, 0, 1));
        most = most.max_pair(old.narrow(2, 1, 1));
    }
    let new = Tensor::cat(vec![least, most], 2);
    layer.bounds = layer.bounds.clone().slice_assign(at, new);
}

/// The block table of each kv head for a span of one row, `q: [1, H d]`.
pub(super) fn select<B: Backend>(
    q: Tensor<B, 2>,
    layer: &SelectedKvLayer<B>,
    shape: AttentionShape,
    span: &AttentionSpan<'_>,
) -> Vec<Vec<u32>> {
    let AttentionShape { heads, kv_heads: g, head_dim: d } = shape;
    let last = span.past / KV_BLOCK;
    let ids = indices::<B>(span.block_table[..last].iter().copied(), &q.device());
    let q = q.reshape([g, heads / g, d]);
    let negative = q.clone().clamp_max(0.0).sum_dim(1);
    let positive = q.clamp_min(0.0).sum_dim(1);
    let weights = Tensor::cat(vec![negative, positive], 2).reshape([g, 1, 2 * d]);
    let bounds = layer.bounds.clone().select(0, ids).permute([1, 2, 3, 0]);
    let scores = weights.matmul(bounds.reshape([g, 2 * d, last]));
    let scores: Vec<f32> = scores.into_data().iter::<f32>().collect();
    let table = |scores: &[f32]| {
        let mut pages: Vec<usize> = (0..last).collect();
        pages.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        pages.truncate(layer.budget.pages() - 1);
        pages.sort_unstable();
        pages.push(last);
        pages.into_iter().map(|page| span.block_table[page]).collect()
    };
    scores.chunks_exact(last).map(table).collect()
}
