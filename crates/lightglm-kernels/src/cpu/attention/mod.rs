//! `attention`: causal grouped-query attention over a blocked KV cache.
//!
//! Shapes: `T` tokens, `H` query heads, `Kh` kv heads, `d` head_dim, `P` blocks of 16 positions.
//!
//! The context is cut into chunks of [`CHUNK`] positions, counted from position 0 whatever the batch
//! looks like. A chunk gives a maximum, a sum and a weighted sum of values for each query; these are
//! merged in the order of the chunks. Which thread computes a chunk, and which other queries share
//! the loads of its keys, changes no bit.

mod chunk;
mod float_pool;
mod int8_chunk;
mod int8_dot;
mod int8_pool;
mod pages;
mod schedule;

use lightglm_core::KV_BLOCK;

use super::isa::Isa;
use super::kv::{AttentionSpan, KvSlice, check_spans};
use super::kv_int8::Int8Pool;
use float_pool::FloatPool;
use schedule::HeadSpan;

pub use pages::{PageSelection, extend_bounds, select_pages};

/// Positions in a chunk.
const CHUNK: usize = 256;
/// Blocks in a chunk.
const CHUNK_BLOCKS: usize = CHUNK / KV_BLOCK;

/// How many heads there are, and how wide they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; query head `h` reads head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

/// `out = softmax(scale * q K^T) V` for `q, out: [T, H * d]`, each row over the positions
/// `0..=past + i` of its span. The pools must hold these positions already ([`super::append_kv`]).
///
/// Nothing beyond a row's last position is used, so what stands there may be anything. Rows of `out`
/// outside of every span keep what they hold.
///
/// Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Kwon et al.
/// 2023, "Efficient Memory Management for Large Language Model Serving with PagedAttention".
///
/// # Panics
/// Where `keys` and `values` differ in element type, `heads` is not a multiple of `kv_heads`, spans
/// overlap or are out of order, a block table is too short or names a block that the pool does not
/// have, or lengths contradict each other.
pub fn attention(
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    keys: KvSlice<'_>,
    values: KvSlice<'_>,
    out: &mut [f32],
) {
    let all = PageSelection::default();
    attention_pages(q, shape, scale, spans, &all, keys, values, out);
}

/// [`attention`] to the pages of `selection`, which [`select_pages`] has made for these spans.
///
/// # Panics
/// As [`attention`].
#[expect(clippy::too_many_arguments, reason = "those of attention, and the pages")]
pub fn attention_pages(
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    selection: &PageSelection,
    keys: KvSlice<'_>,
    values: KvSlice<'_>,
    out: &mut [f32],
) {
    assert_eq!(keys.len(), values.len(), "keys and values differ in length");
    if !has_queries(q, shape, out) {
        return;
    }
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let blocks = keys.len() / (kv_heads * head_dim * KV_BLOCK);
    check_spans(spans, q.len() / (heads * head_dim), blocks);
    let spans = &head_spans(spans, shape, selection);
    let isa = Isa::current();
    match (keys, values) {
        (KvSlice::F32(keys), KvSlice::F32(values)) => {
            schedule::run(isa, q, shape, scale, spans, &FloatPool { keys, values }, out);
        }
        (KvSlice::F16(keys), KvSlice::F16(values)) => {
            schedule::run(isa, q, shape, scale, spans, &FloatPool { keys, values }, out);
        }
        (KvSlice::Bf16(keys), KvSlice::Bf16(values)) => {
            schedule::run(isa, q, shape, scale, spans, &FloatPool { keys, values }, out);
        }
        _ => panic!("keys and values differ in element type"),
    }
}

/// [`attention`] of each row to all positions of its span, `0..past + rows`, in f32: what encoders do.
///
/// # Panics
/// As [`attention`].
pub fn attention_to_all(
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    [keys, values]: [&[f32]; 2],
    out: &mut [f32],
) {
    assert_eq!(keys.len(), values.len(), "keys and values differ in length");
    if !has_queries(q, shape, out) {
        return;
    }
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let blocks = keys.len() / (kv_heads * head_dim * KV_BLOCK);
    check_spans(spans, q.len() / (heads * head_dim), blocks);
    let spans: Vec<HeadSpan<'_>> = spans
        .iter()
        .map(|&span| HeadSpan { span, kv_heads: 0..kv_heads, sees_all: true })
        .collect();
    let pool = FloatPool { keys, values };
    schedule::run(Isa::current(), q, shape, scale, &spans, &pool, out);
}

/// [`attention`] over a pool of codes ([`super::append_kv_int8`]), in integer arithmetic.
///
/// Queries are rounded to 16 bits of their head's largest number, and softmax weights (with the
/// values' scales folded in) to 14 bits of their chunk's largest: little beside the rounding of keys
/// and values to 8 bits.
///
/// # Panics
/// As [`attention`].
pub fn attention_int8(
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    pool: Int8Pool<'_>,
    out: &mut [f32],
) {
    attention_int8_pages(q, shape, scale, spans, &PageSelection::default(), pool, out);
}

/// [`attention_int8`] to the pages of `selection`, which [`select_pages`] has made for these spans.
///
/// # Panics
/// As [`attention`].
pub fn attention_int8_pages(
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    selection: &PageSelection,
    pool: Int8Pool<'_>,
    out: &mut [f32],
) {
    if !has_queries(q, shape, out) {
        return;
    }
    check_spans(spans, q.len() / (shape.heads * shape.head_dim), pool.blocks(shape));
    let spans = &head_spans(spans, shape, selection);
    schedule::run(Isa::current(), q, shape, scale, spans, &pool, out);
}

/// Whole spans for all kv heads, selected ones for each kv head with its own table.
fn head_spans<'a>(
    spans: &[AttentionSpan<'a>],
    shape: AttentionShape,
    selection: &'a PageSelection,
) -> Vec<HeadSpan<'a>> {
    let mut all = Vec::new();
    for (i, &span) in spans.iter().enumerate() {
        match selection.of_span(i) {
            None => {
                let kv_heads = 0..shape.kv_heads;
                all.push(HeadSpan { span, kv_heads, sees_all: false });
            }
            Some(tables) => {
                assert_eq!((span.rows, tables.len()), (1, shape.kv_heads), "other spans' pages");
                all.extend(tables.iter().enumerate().map(|(head, table)| {
                    let past = (table.len() - 1) * KV_BLOCK + span.past % KV_BLOCK;
                    let span = AttentionSpan { past, block_table: table, ..span };
                    HeadSpan { span, kv_heads: head..head + 1, sees_all: false }
                }));
            }
        }
    }
    all
}

/// Whether there is anything to do.
///
/// # Panics
/// Where lengths or numbers of heads contradict each other.
fn has_queries(q: &[f32], shape: AttentionShape, out: &[f32]) -> bool {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    assert_eq!(q.len(), out.len(), "q and out differ in length");
    let width = heads * head_dim;
    if width == 0 {
        assert!(q.is_empty(), "q has {} elements, but H * d = 0", q.len());
        return false;
    }
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "{heads} heads are not a multiple of {kv_heads} kv heads"
    );
    assert_eq!(q.len() % width, 0, "q has {} elements, not a multiple of {width}", q.len());
    true
}
