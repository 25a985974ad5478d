//! One layer's KV pool: its element type, its layout, and how new positions get in.
//!
//! Shapes: `T` tokens, `Kh` kv heads, `d` head_dim, `P` blocks of 16 positions. Keys are
//! `[P, Kh, d, 16]` (transposed inside a block), values `[P, Kh, 16, d]`.

use half::{bf16, f16};
use lightglm_core::KV_BLOCK;

use super::attention::AttentionShape;
use super::element::Element;
use super::scratch::Shared;
use super::team;

/// New positions of one sequence in a packed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSpan<'a> {
    /// The span's first row in the batch.
    pub first_row: usize,
    /// How many rows it has.
    pub rows: usize,
    /// Positions the sequence held before: row `i` of the span is position `past + i`.
    pub past: usize,
    /// Position `p` lies in block `block_table[p / 16]` at offset `p % 16`.
    pub block_table: &'a [u32],
}

/// A pool of keys or values to read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum KvSlice<'a> {
    /// IEEE 754 binary32.
    F32(&'a [f32]),
    /// IEEE 754 binary16.
    F16(&'a [f16]),
    /// The upper half of a binary32.
    Bf16(&'a [bf16]),
}

/// A pool of keys or values to write.
#[derive(Debug)]
#[non_exhaustive]
pub enum KvSliceMut<'a> {
    /// IEEE 754 binary32.
    F32(&'a mut [f32]),
    /// IEEE 754 binary16.
    F16(&'a mut [f16]),
    /// The upper half of a binary32.
    Bf16(&'a mut [bf16]),
}

impl KvSlice<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(pool) => pool.len(),
            Self::F16(pool) => pool.len(),
            Self::Bf16(pool) => pool.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl KvSliceMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(pool) => pool.len(),
            Self::F16(pool) => pool.len(),
            Self::Bf16(pool) => pool.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes the keys and values of new positions into their blocks, rounded to the pool's precision.
///
/// `k, v: [T, Kh * d]`. Two spans must not share a block they write to; if they do, one of them
/// wins.
///
/// # Panics
/// Where `keys` and `values` differ in element type, a block table is too short or names a block
/// that the pool does not have, or lengths contradict each other.
pub fn append_kv(
    k: &[f32],
    v: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    keys: KvSliceMut<'_>,
    values: KvSliceMut<'_>,
) {
    let width = shape.kv_heads * shape.head_dim;
    assert_eq!(k.len(), v.len(), "k and v differ in length");
    assert_eq!(keys.len(), values.len(), "keys and values differ in length");
    if width == 0 {
        assert!(k.is_empty(), "k has {} elements, but Kh * d = 0", k.len());
        return;
    }
    assert_eq!(k.len() % width, 0, "k has {} elements, not a multiple of {width}", k.len());
    check_spans(spans, k.len() / width, keys.len() / (width * KV_BLOCK));
    match (keys, values) {
        (KvSliceMut::F32(keys), KvSliceMut::F32(values)) => {
            append(k, v, shape, spans, keys, values);
        }
        (KvSliceMut::F16(keys), KvSliceMut::F16(values)) => {
            append(k, v, shape, spans, keys, values);
        }
        (KvSliceMut::Bf16(keys), KvSliceMut::Bf16(values)) => {
            append(k, v, shape, spans, keys, values);
        }
        _ => panic!("keys and values differ in element type"),
    }
}

/// Panics unless the spans are in order, apart, and inside of `t` rows.
pub(super) fn check_rows(spans: &[AttentionSpan<'_>], t: usize) {
    let mut row = 0;
    for span in spans {
        assert!(span.first_row >= row, "spans overlap or are out of order");
        row = span.first_row + span.rows;
        assert!(row <= t, "a span ends at row {row} of {t}");
    }
}

/// [`check_rows`], and panics unless all positions lie in blocks below `blocks`.
pub(super) fn check_spans(spans: &[AttentionSpan<'_>], t: usize, blocks: usize) {
    check_rows(spans, t);
    for span in spans {
        let needed = if span.rows == 0 { 0 } else { (span.past + span.rows).div_ceil(KV_BLOCK) };
        assert!(
            span.block_table.len() >= needed,
            "a block table has {} blocks, {needed} are needed",
            span.block_table.len()
        );
        for &block in &span.block_table[..needed] {
            assert!((block as usize) < blocks, "block {block} of a pool of {blocks}");
        }
    }
}

fn append<E: Element>(
    k: &[f32],
    v: &[f32],
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    keys: &mut [E],
    values: &mut [E],
) {
    /// Below this, the fork costs more than the copy.
    const MIN_PARALLEL: usize = 16 * 1024;
    let (kv_heads, d) = (shape.kv_heads, shape.head_dim);
    let (keys, values) = (Shared(keys.as_mut_ptr()), Shared(values.as_mut_ptr()));
    // A head's part of every block is its own, so heads can go to different threads whatever the
    // spans say.
    let heads_per_task = if k.len() < MIN_PARALLEL { kv_heads } else { 1 };
    team::parallel_for(kv_heads / heads_per_task, |task| {
        for head in task * heads_per_task..(task + 1) * heads_per_task {
            for span in spans {
                for i in 0..span.rows {
                    let position = span.past + i;
                    let block = span.block_table[position / KV_BLOCK] as usize;
                    let offset = position % KV_BLOCK;
                    let start = (span.first_row + i) * kv_heads * d + head * d;
                    let base = (block * kv_heads + head) * d * KV_BLOCK;
                    // SAFETY: `check_spans` has checked that the block lies in the pool, whose part
                    // for this head is `base..base + d * 16`; no other task touches this head.
                    unsafe {
                        let values = values.get().add(base + offset * d);
                        for (j, &v) in v[start..start + d].iter().enumerate() {
                            values.add(j).write(E::from_f32(v));
                        }
                        let keys = keys.get().add(base + offset);
                        for (j, &k) in k[start..start + d].iter().enumerate() {
                            keys.add(j * KV_BLOCK).write(E::from_f32(k));
                        }
                    }
                }
            }
        }
    });
}
