//! Attention of every row to every row of its own segment: a text, a picture, a window of speech.
//!
//! Shapes: `T` rows, `H` heads, `G` kv heads, `d` head_dim.

use std::ops::Range;

use super::AttentionShape;
use super::encoder::{for_each_piece, softmax};
use super::product::{MatrixRef, product};
use super::weights::Weights;

/// Queries whose scores exist at a time: bounds the memory of a long segment.
const QUERIES: usize = 128;

/// `softmax(q k^T / sqrt(d)) v` for `q: [T, H d]` and `k, v: [T, G d]`, each of the segments for itself; they lie
/// one behind the other from row 0 on. Returns `[T, H d]`.
///
/// Source: Vaswani et al. 2017, "Attention Is All You Need", 3.2.
pub fn attend_segments(
    [q, k, v]: [&[f32]; 3],
    segments: &[Range<usize>],
    shape: AttentionShape,
) -> Vec<f32> {
    let AttentionShape { heads, kv_heads, head_dim: head_width } = shape;
    let (width, kv_width, group) = (heads * head_width, kv_heads * head_width, heads / kv_heads);
    // Head after head of each segment, so that a task writes one run of memory.
    let mut by_head = vec![0.0; q.len()];
    let mut pieces = Vec::with_capacity(segments.len() * heads);
    let mut rest = by_head.as_mut_slice();
    for range in segments {
        for _ in 0..heads {
            let (piece, others) = rest.split_at_mut(range.len() * head_width);
            pieces.push(piece);
            rest = others;
        }
    }
    for_each_piece(pieces, |index, out| {
        let range = segments[index / heads].clone();
        let head = index % heads;
        let of_query = Head { x: q, width, head_width, first: head * head_width };
        let first = head / group * head_width;
        let of_key = |x| Head { x, width: kv_width, head_width, first };
        attend_head([of_query, of_key(k), of_key(v)], range, out);
    });
    let mut joined = vec![0.0; q.len()];
    let pieces = segments.iter().scan(joined.as_mut_slice(), |rest, range| {
        let (piece, others) = std::mem::take(rest).split_at_mut(range.len() * width);
        *rest = others;
        Some(piece)
    });
    for_each_piece(pieces, |index, out| {
        let range = &segments[index];
        let segment = &by_head[range.start * width..range.end * width];
        for (head, rows) in segment.chunks_exact(range.len() * head_width).enumerate() {
            for (token, row) in rows.chunks_exact(head_width).enumerate() {
                out[token * width + head * head_width..][..head_width].copy_from_slice(row);
            }
        }
    });
    joined
}

/// The columns of one head.
#[derive(Clone, Copy)]
struct Head<'a> {
    x: &'a [f32],
    width: usize,
    head_width: usize,
    first: usize,
}

impl<'a> Head<'a> {
    /// Some rows: `[rows, d]`.
    fn rows(self, rows: Range<usize>) -> MatrixRef<'a> {
        let from = &self.x[rows.start * self.width + self.first..];
        MatrixRef::with_stride(Weights::F32(from), [rows.len(), self.head_width], self.width)
    }
}

fn attend_head([q, k, v]: [Head<'_>; 3], segment: Range<usize>, out: &mut [f32]) {
    let (tokens, width) = (segment.len(), q.head_width);
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores = vec![0.0; tokens.min(QUERIES) * tokens];
    for (block, out) in out.chunks_mut(QUERIES * width).enumerate() {
        let first = segment.start + block * QUERIES;
        let queries = out.len() / width;
        let scores = &mut scores[..queries * tokens];
        product(
            q.rows(first..first + queries),
            k.rows(segment.clone()).transposed(),
            scores,
            false,
        );
        scores.chunks_exact_mut(tokens).for_each(|row| softmax(row, scale));
        let weights = MatrixRef::new(Weights::F32(scores), [queries, tokens]);
        product(weights, v.rows(segment.clone()), out, false);
    }
}
