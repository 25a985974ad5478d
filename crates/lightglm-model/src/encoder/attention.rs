//! Attention of every token to every token of its own text.
//!
//! Shapes: `T` tokens, `H` heads, `d` width of a head, `D = H d`.

use std::ops::Range;

use lightglm_kernels::cpu::{MatrixRef, Weights, product};

use super::arithmetic::{for_each_piece, softmax};

/// Queries whose scores exist at a time: bounds the memory of a long text.
const QUERIES: usize = 128;

/// `softmax(q k^T / sqrt(d)) v` for `q, k, v: [T, D]`, each of the texts `ranges` for itself; returns
/// `[T, D]`.
///
/// Source: Vaswani et al. 2017, "Attention Is All You Need", 3.2.
pub(super) fn attend(
    [q, k, v]: [&[f32]; 3],
    ranges: &[Range<usize>],
    heads: usize,
    width: usize,
) -> Vec<f32> {
    let head_width = width / heads;
    // Head after head of each text, so that a task writes one run of memory.
    let mut by_head = vec![0.0; q.len()];
    let mut pieces = Vec::with_capacity(ranges.len() * heads);
    let mut rest = by_head.as_mut_slice();
    for range in ranges {
        for _ in 0..heads {
            let (piece, others) = rest.split_at_mut(range.len() * head_width);
            pieces.push(piece);
            rest = others;
        }
    }
    for_each_piece(pieces, |index, out| {
        let range = ranges[index / heads].clone();
        let first = index % heads * head_width;
        let of_head = |x| Head { x, width, head_width, first };
        attend_head([of_head(q), of_head(k), of_head(v)], range, out);
    });
    let mut joined = vec![0.0; q.len()];
    let pieces = ranges.iter().scan(joined.as_mut_slice(), |rest, range| {
        let (piece, others) = std::mem::take(rest).split_at_mut(range.len() * width);
        *rest = others;
        Some(piece)
    });
    for_each_piece(pieces, |index, out| {
        let range = &ranges[index];
        let text = &by_head[range.start * width..range.end * width];
        for (head, rows) in text.chunks_exact(range.len() * head_width).enumerate() {
            for (token, row) in rows.chunks_exact(head_width).enumerate() {
                out[token * width + head * head_width..][..head_width].copy_from_slice(row);
            }
        }
    });
    joined
}

/// The columns of one head in `[T, D]`.
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

fn attend_head([q, k, v]: [Head<'_>; 3], text: Range<usize>, out: &mut [f32]) {
    let (tokens, width) = (text.len(), q.head_width);
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores = vec![0.0; tokens.min(QUERIES) * tokens];
    for (block, out) in out.chunks_mut(QUERIES * width).enumerate() {
        let first = text.start + block * QUERIES;
        let queries = out.len() / width;
        let scores = &mut scores[..queries * tokens];
        product(q.rows(first..first + queries), k.rows(text.clone()).transposed(), scores, false);
        scores.chunks_exact_mut(tokens).for_each(|row| softmax(row, scale));
        let weights = MatrixRef::new(Weights::F32(scores), [queries, tokens]);
        product(weights, v.rows(text.clone()), out, false);
    }
}
