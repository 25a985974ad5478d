//! Attention of every row to every row of its own segment: a text, a picture, a window of speech.
//!
//! Shapes: `T` rows, `H` heads, `G` kv heads, `d` head_dim.

use std::ops::Range;

use lightglm_core::KV_BLOCK;

use super::AttentionShape;
use super::attention::attention_to_all;
use super::kv::{AttentionSpan, KvSliceMut, append_kv};

/// `softmax(q k^T / sqrt(d)) v` for `q: [T, H d]` and `k, v: [T, G d]`, each of the segments for itself; they lie
/// one behind the other from row 0 on. Returns `[T, H d]`.
///
/// Keys and values go through blocks as a cache has them, so that it is the decoder's attention that computes it, a chunk of
/// positions at a time: there are never more scores than a few queries have of one chunk.
///
/// Source: Vaswani et al. 2017, "Attention Is All You Need", 3.2.
pub fn attend_segments(
    [q, k, v]: [&[f32]; 3],
    segments: &[Range<usize>],
    shape: AttentionShape,
) -> Vec<f32> {
    let mut blocks = 0u32;
    let tables: Vec<Vec<u32>> = segments
        .iter()
        .map(|segment| {
            let first = blocks;
            blocks += segment.len().div_ceil(KV_BLOCK) as u32;
            (first..blocks).collect()
        })
        .collect();
    let spans: Vec<AttentionSpan<'_>> = segments
        .iter()
        .zip(&tables)
        .map(|(segment, table)| AttentionSpan {
            first_row: segment.start,
            rows: segment.len(),
            past: 0,
            block_table: table,
        })
        .filter(|span| span.rows > 0)
        .collect();
    let len = blocks as usize * KV_BLOCK * shape.kv_heads * shape.head_dim;
    let (mut keys, mut values) = (vec![0.0; len], vec![0.0; len]);
    append_kv(k, v, shape, &spans, KvSliceMut::F32(&mut keys), KvSliceMut::F32(&mut values));
    let mut out = vec![0.0; q.len()];
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    attention_to_all(q, shape, scale, &spans, [&keys, &values], &mut out);
    out
}
