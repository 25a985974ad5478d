//! One chunk of an eight-bit context, for the queries of a tile.
//!
//! Queries are quantized to 16 bits and probabilities, with the values' scales folded in, to 14
//! bits of the chunk's largest; both are split into two bytes, and the sums over channels and over
//! positions are exact integers. What is rounded is rounded in one order everywhere.

use lightglm_core::KV_BLOCK;

use super::super::isa::{Isa, kernel};
use super::super::kv_int8::{largest_magnitude, nearest, rotate};
use super::super::simd::{LANES, Simd};
use super::chunk::{QUERIES, softmax};
use super::int8_dot::{self, Form, KeyDots, ROWS, ValueDots};
use super::{CHUNK, CHUNK_BLOCKS};

/// A query is `scale * (256 high + low)` with bytes `-127..=127` and `-128..=127`.
const QUERY_STEPS: f32 = 32_512.0;
/// A weight is `scale * (128 high + low)` with bytes `0..=127`.
const WEIGHT_STEPS: f32 = 16_383.0;
/// What scales are computed from at least, so that their reciprocals are finite.
const SMALLEST: f32 = 1e-30;

/// f32 elements in front of a prepared tile's bytes: an i32 offset for each row, then a scale for
/// each query.
const HEADER: usize = 2 * LANES;

/// f32 elements of a prepared tile.
pub(super) const fn tile_len(head_dim: usize) -> usize {
    HEADER + head_dim.div_ceil(4) * ROWS
}

/// f32 elements of scratch that [`attend_chunk`] needs: scores, integers, and the bytes of weights.
pub(super) const fn scratch_len(head_dim: usize) -> usize {
    QUERIES * CHUNK + ROWS * integers(head_dim) + ROWS * CHUNK / 4
}

/// Integers of a row: one for each position, then one for each channel.
const fn integers(head_dim: usize) -> usize {
    let channels = head_dim.next_multiple_of(LANES);
    if channels > CHUNK { channels } else { CHUNK }
}

/// A chunk's blocks for one kv head, and the queries that look at it.
pub(super) struct Int8Tile {
    /// As many blocks as the last query sees.
    pub(super) blocks: usize,
    pub(super) key_codes: [*const i8; CHUNK_BLOCKS],
    pub(super) key_scales: [*const f32; CHUNK_BLOCKS],
    pub(super) value_codes: [*const i8; CHUNK_BLOCKS],
    pub(super) value_scales: [*const f32; CHUNK_BLOCKS],
    pub(super) head_dim: usize,
    pub(super) scale: f32,
    /// Number of queries.
    pub(super) count: usize,
    /// What [`prepare`] has written for them, [`tile_len`] elements.
    pub(super) queries: *const f32,
    /// Positions of this chunk that each query sees.
    pub(super) visible: [usize; QUERIES],
    /// Where each query's state goes.
    pub(super) states: [*mut f32; QUERIES],
    /// [`scratch_len`] elements.
    pub(super) scratch: *mut f32,
}

/// Quantizes the queries of a tile, at most [`QUERIES`], into `tile`.
pub(super) fn prepare(isa: Isa, queries: &[&[f32]], rotate_keys: bool, tile: &mut [f32]) {
    tile.fill(0.0);
    for (slot, query) in queries.iter().enumerate() {
        super::super::scratch::with_scratch(query.len(), |plain| {
            plain.copy_from_slice(query);
            // SAFETY: a tile has `tile_len` elements.
            unsafe {
                if rotate_keys && !plain.is_empty() {
                    rotate(isa, plain);
                }
                quantize_query(isa, plain, tile, slot, Form::new(isa, plain.len()));
            }
        });
    }
}

kernel! {
    /// Writes one query into slot `slot` of a tile.
    ///
    /// # Safety
    /// `tile` has `tile_len(query.len())` elements, and `slot < QUERIES`.
    unsafe fn quantize_query(query: &[f32], tile: &mut [f32], slot: usize, form: Form)
        = quantize_query_on;
}

#[inline(always)]
unsafe fn quantize_query_on<S: Simd>(query: &[f32], tile: &mut [f32], slot: usize, form: Form) {
    let most = largest_magnitude(query);
    let factor = QUERY_STEPS / most.max(SMALLEST);
    let (header, bytes) = tile.split_at_mut(HEADER);
    let mut sums = [0i32; 2];
    let bytes = bytes.as_mut_ptr().cast::<i8>();
    for (c, x) in query.iter().enumerate() {
        let code = nearest(x * factor);
        let low = code as i8;
        let high = (code.wrapping_sub(i32::from(low)) >> 8) as i8;
        sums = [sums[0] + i32::from(high), sums[1] + i32::from(low)];
        // SAFETY: the tile has four bytes for each row in each group of four channels.
        unsafe {
            let at = bytes.add(c / 4 * (4 * ROWS) + slot * 8);
            match form {
                Form::Halves => {
                    at.add(c % 4).write(high);
                    at.add(4 + c % 4).write(low);
                }
                Form::Whole => at.cast::<i16>().add(c % 4).write_unaligned(code as i16),
            }
        }
    }
    for (half, sum) in sums.into_iter().enumerate() {
        header[2 * slot + half] = f32::from_bits(sum.wrapping_mul(-128) as u32);
    }
    let scale = if most.is_finite() { most.max(SMALLEST) / QUERY_STEPS } else { f32::NAN };
    header[LANES + slot] = scale;
}

/// Computes the states of the tile's queries over its chunk; a query that sees nothing of it gets
/// no state.
///
/// # Safety
/// The pointers are valid for the shapes stated at [`Int8Tile`], and no one else uses the states and
/// the scratch.
pub(super) unsafe fn attend_chunk(isa: Isa, tile: &Int8Tile) {
    let d4 = tile.head_dim.next_multiple_of(4);
    let rows = 2 * tile.count;
    // SAFETY: the caller's contract; the scratch holds scores, integers and weights, in this order.
    unsafe {
        let scores = tile.scratch;
        let integers_at = scores.add(QUERIES * CHUNK).cast::<i32>();
        let weights = integers_at.add(ROWS * integers(tile.head_dim)).cast::<i8>();
        let form = Form::new(isa, tile.head_dim);
        let dots = KeyDots {
            form,
            blocks: &tile.key_codes[..tile.blocks],
            ahead: &tile.value_codes[..tile.blocks],
            queries: tile.queries.add(HEADER).cast(),
            offsets: tile.queries.cast(),
            steps: d4 / 4,
            rows,
            out: integers_at,
        };
        int8_dot::key_dots(isa, &dots);
        weigh(isa, tile, scores, integers_at, weights, form);
        let dots = ValueDots {
            form,
            blocks: &tile.value_codes[..tile.blocks],
            probabilities: weights,
            d4,
            rows,
            out: integers_at,
        };
        int8_dot::value_dots(isa, &dots);
        write_states(isa, tile, scores, integers_at, form);
    }
}

kernel! {
    /// From sums over channels to weights of positions: scores, maximum and sum of the softmax (into
    /// the states), and the bytes of the weights. A query's weight scale is left in its first score.
    ///
    /// # Safety
    /// As for `attend_chunk`.
    unsafe fn weigh(
        tile: &Int8Tile, scores: *mut f32, integers: *const i32, weights: *mut i8, form: Form,
    ) = weigh_on;
}

kernel! {
    /// From sums over positions to the states' values.
    ///
    /// # Safety
    /// As for `attend_chunk`.
    unsafe fn write_states(
        tile: &Int8Tile, scores: *const f32, integers: *const i32, form: Form,
    ) = write_states_on;
}

/// Sixteen integers as f32, rounded to nearest even where they have more than 24 bits.
#[inline(always)]
unsafe fn as_f32<S: Simd>(from: *const i32) -> S {
    let mut lanes = [0.0f32; LANES];
    // SAFETY: the caller vouches for sixteen integers.
    unsafe {
        let from = &*from.cast::<[i32; LANES]>();
        for l in 0..LANES {
            lanes[l] = from[l] as f32;
        }
        S::load(lanes.as_ptr())
    }
}

#[inline(always)]
unsafe fn weigh_on<S: Simd>(
    tile: &Int8Tile,
    scores: *mut f32,
    integers: *const i32,
    weights: *mut i8,
    form: Form,
) {
    for query in 0..tile.count {
        let visible = tile.visible[query];
        // SAFETY: the caller's contract: a row of scores, two of integers and of weights each.
        unsafe {
            let scores = scores.add(query * CHUNK);
            let high = weights.add(2 * query * CHUNK);
            let low = high.add(CHUNK);
            let blocks = visible.div_ceil(KV_BLOCK);
            for block in blocks..tile.blocks {
                let at = block * KV_BLOCK;
                match form {
                    Form::Halves => {
                        high.add(at).cast::<[i8; KV_BLOCK]>().write([0; KV_BLOCK]);
                        low.add(at).cast::<[i8; KV_BLOCK]>().write([0; KV_BLOCK]);
                    }
                    Form::Whole => {
                        let to = high.cast::<i16>().add(at).cast::<[i16; KV_BLOCK]>();
                        to.write_unaligned([0; KV_BLOCK]);
                    }
                }
            }
            if visible == 0 {
                continue;
            }
            let sums = integers.add(2 * query * CHUNK);
            let scale = S::splat(*tile.queries.add(LANES + query) * tile.scale);
            for block in 0..blocks {
                let at = block * KV_BLOCK;
                let mut sum = as_f32::<S>(sums.add(at));
                if form == Form::Halves {
                    sum = sum.fma(S::splat(256.0), as_f32::<S>(sums.add(CHUNK + at)));
                }
                let key_scales = S::load(tile.key_scales[block]);
                sum.mul(scale).mul(key_scales).store(scores.add(at));
            }
            softmax::<S>(scores, visible, tile.states[query]);
            // Fold the values' scales in; what is not visible weighs nothing, whatever it holds.
            let mut most = [0u32; LANES];
            for block in 0..blocks {
                let at = scores.add(block * KV_BLOCK);
                let mut weight = S::load(at).mul(S::load(tile.value_scales[block]));
                let left = visible - block * KV_BLOCK;
                if left < KV_BLOCK {
                    weight = weight.keep_first(left, 0.0);
                }
                weight.store(at);
                let bits = &*at.cast::<[u32; LANES]>();
                for l in 0..LANES {
                    // Weights are not negative, so that bits are ordered as they are; NaN is last.
                    most[l] = most[l].max(bits[l] & 0x7fff_ffff);
                }
            }
            let most = f32::from_bits(most.into_iter().fold(0, u32::max));
            let factor = S::splat(WEIGHT_STEPS / most.max(SMALLEST));
            for block in 0..blocks {
                let at = block * KV_BLOCK;
                let mut lanes = [0.0f32; LANES];
                S::load(scores.add(at)).mul(factor).store(lanes.as_mut_ptr());
                match form {
                    Form::Halves => {
                        let mut bytes = [[0i8; LANES]; 2];
                        for l in 0..LANES {
                            let code = nearest(lanes[l]);
                            bytes[0][l] = (code >> 7 & 127) as i8;
                            bytes[1][l] = (code & 127) as i8;
                        }
                        high.add(at).cast::<[i8; LANES]>().write(bytes[0]);
                        low.add(at).cast::<[i8; LANES]>().write(bytes[1]);
                    }
                    Form::Whole => {
                        let mut codes = [0i16; LANES];
                        for l in 0..LANES {
                            codes[l] = (nearest(lanes[l]) & 16383) as i16;
                        }
                        let to = high.cast::<i16>().add(at).cast::<[i16; LANES]>();
                        to.write_unaligned(codes);
                    }
                }
            }
            let scale = if most.is_finite() { most.max(SMALLEST) / WEIGHT_STEPS } else { f32::NAN };
            scores.write(scale);
        }
    }
}

#[inline(always)]
unsafe fn write_states_on<S: Simd>(
    tile: &Int8Tile,
    scores: *const f32,
    integers: *const i32,
    form: Form,
) {
    let width = tile.head_dim.next_multiple_of(LANES);
    for query in (0..tile.count).filter(|&query| tile.visible[query] > 0) {
        // SAFETY: the caller's contract; states are padded to whole vectors.
        unsafe {
            let scale = S::splat(*scores.add(query * CHUNK));
            let sums = integers.add(2 * query * width);
            for c in (0..width).step_by(LANES) {
                let mut sum = as_f32::<S>(sums.add(c));
                if form == Form::Halves {
                    sum = sum.fma(S::splat(128.0), as_f32::<S>(sums.add(width + c)));
                }
                sum.mul(scale).store(tile.states[query].add(LANES + c));
            }
        }
    }
}
