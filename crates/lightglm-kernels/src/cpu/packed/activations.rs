//! Activations: quantized, and laid out in the order in which the tiles read them.
//!
//! ```text
//! tile   [codes, starts, sums, scales], each a multiple of four bytes
//! codes  [quad of columns, lane, 4] i8 or i16    starts [segment, lane] i32
//! scales [group, lane] f32                       sums   [segment, lane] f32
//! ```
//! A lane is a token, or with 16 bits one of the two halves of a token's codes, the high one first.
//! Where lanes are i16 and segments short enough, codes of 16 bits stay whole: the integer sums are the
//! same, and so is the f32 nearest to them.

use super::super::scratch::{Shared, with_scratch};
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::DotIsa;
use super::dot::Dot;
use super::isa::dot_kernel;
use super::segments::Cut;
use crate::packed::{ActivationBits, ActivationFormat};

/// Segments of so many columns are short.
const SHORT_SEGMENT: usize = 64;
/// From so many activations on, threads share the work.
const PARALLEL: usize = 16 * 1024;

/// How quantized activations of `[tokens, k]` are laid out. Lengths count elements of four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) tokens: usize,
    pub(super) cut: Cut,
    /// Lanes of a token: 1, or 2 with activations of 16 bits that are not whole.
    pub(super) halves: usize,
    /// Tokens of a tile; the last one may have fewer.
    pub(super) width: usize,
    /// Bytes of a quad of codes: [`Dot::QUAD`].
    pub(super) quad: usize,
    /// Bits of a code.
    bits: ActivationBits,
    /// What the sum of a segment's codes is multiplied with to start its accumulator.
    factor: i32,
    quads: usize,
    segments: usize,
    groups: usize,
}

/// The parts of one tile.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Its first token.
    pub(super) token: usize,
    /// Lanes: tokens times halves.
    pub(super) lanes: usize,
    pub(super) codes: *mut i8,
    pub(super) starts: *mut i32,
    pub(super) sums: *mut f32,
    pub(super) scales: *mut f32,
}

impl Layout {
    /// For tiles of at most `most` lanes; `quads` counts the quads of columns, padding included. Codes of
    /// 16 bits stay `whole` if so, which `isa` has to have lanes for.
    pub(super) fn new(
        [tokens, quads]: [usize; 2],
        cut: Cut,
        bits: ActivationBits,
        whole: bool,
        isa: DotIsa,
        factor: i32,
    ) -> Self {
        // With short segments the f32 totals are as busy as the sums, and both must find registers.
        let most = match cut.weight.min(cut.activation) <= SHORT_SEGMENT {
            true => isa.max_lanes().min(6),
            false => isa.max_lanes(),
        };
        let quad = isa.quad();
        let halves = match bits {
            ActivationBits::Sixteen if !(whole && quad == 8) => 2,
            _ => 1,
        };
        let tiles = tokens.div_ceil(most / halves).max(1);
        let width = tokens.div_ceil(tiles).max(1);
        let groups = cut.k.div_ceil(cut.activation).max(1);
        let segments = cut.count();
        Self { tokens, cut, halves, width, quad, bits, factor, quads, segments, groups }
    }

    pub(super) fn tiles(&self) -> usize {
        self.tokens.div_ceil(self.width)
    }

    /// Elements of one tile.
    fn stride(&self) -> usize {
        let lanes = self.width * self.halves;
        let quads = self.quads * (self.quad / 4);
        (lanes * (quads + 2 * self.segments + self.groups)).next_multiple_of(16)
    }

    /// Elements of all tiles.
    pub(super) fn len(&self) -> usize {
        self.tiles() * self.stride()
    }

    /// Tile `index` in a memory of [`Layout::len`] elements.
    #[inline(always)]
    pub(super) fn tile(&self, memory: *mut f32, index: usize) -> Tile {
        let token = index * self.width;
        let lanes = self.width.min(self.tokens - token) * self.halves;
        let codes = memory.wrapping_add(index * self.stride());
        let starts = codes.wrapping_add(lanes * self.quads * (self.quad / 4));
        let sums = starts.wrapping_add(lanes * self.segments);
        let scales = sums.wrapping_add(lanes * self.segments);
        Tile { token, lanes, codes: codes.cast(), starts: starts.cast(), sums, scales }
    }

    /// Bytes of a row of codes before they are laid out.
    fn row(&self) -> usize {
        (self.quads * 4 + LANES).next_multiple_of(64)
    }
}

/// A code of an activation as a tile holds it.
pub(super) trait Code: Copy + Default + PartialEq {
    /// Where among a quad's codes that of column `column` is.
    fn place_of_column(column: usize) -> usize;
}

impl Code for i8 {
    fn place_of_column(column: usize) -> usize {
        column
    }
}

impl Code for i16 {
    /// Beside that of every second column, as codes of weights lie when bytes are widened in place.
    fn place_of_column(column: usize) -> usize {
        [0, 2, 1, 3][column]
    }
}

/// The code of a column and a lane.
///
/// # Safety
/// The tile has codes of type `C`, of this column and lane.
unsafe fn code_at<C: Code>(tile: Tile, column: usize, lane: usize) -> C {
    let place = (column / 4 * tile.lanes + lane) * 4 + C::place_of_column(column % 4);
    // SAFETY: the caller's contract.
    unsafe { *tile.codes.cast::<C>().add(place) }
}

/// Quantizes `x: [tokens, k]` into `memory`, of `layout.len()` elements.
pub(super) fn quantize(isa: DotIsa, x: &[f32], layout: &Layout, memory: &mut [f32]) {
    assert!(x.len() == layout.tokens * layout.cut.k && memory.len() >= layout.len());
    let all = Shared(memory.as_mut_ptr());
    let one = |index: usize| {
        let tile = layout.tile(all.get(), index);
        with_scratch(layout.row() / 2, |row| {
            let x = x[tile.token * layout.cut.k..].as_ptr();
            // SAFETY: the tile's tokens are rows of `x`; its parts lie inside of `memory`, where no
            // other tile's do; the scratch holds two rows.
            unsafe { quantize_tile(isa, layout, x, tile, row.as_mut_ptr().cast()) }
        });
    };
    match x.len() < PARALLEL {
        true => (0..layout.tiles()).for_each(one),
        false => team::parallel_for(layout.tiles(), one),
    }
}

/// Codes and scales of activations, as [`crate::LmBackend::project_packed`] quantizes them.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedActivations {
    /// `[T, K]`.
    pub codes: Vec<i16>,
    /// `[T, groups]`.
    pub scales: Vec<f32>,
}

/// Quantizes `x: [T, K]` with the kernels, in plain order. For tests and measurements.
///
/// A group that holds NaN or an infinity gets the scale NaN.
///
/// # Panics
/// Where `x` is not a whole number of rows.
pub fn quantize_activations(x: &[f32], k: usize, format: ActivationFormat) -> QuantizedActivations {
    let t = x.len().checked_div(k).unwrap_or(0);
    assert_eq!(x.len(), t * k, "x is no whole number of rows of {k}");
    let group = format.group_size.unwrap_or(k).clamp(1, k.max(1));
    let cut = Cut { k, weight: k.max(1), activation: group };
    let isa = DotIsa::current();
    let layout = Layout::new([t, k.div_ceil(4)], cut, format.bits, true, isa, 0);
    let mut memory = vec![0.0; layout.len()];
    quantize(isa, x, &layout, &mut memory);
    let (mut codes, mut scales) = (Vec::with_capacity(t * k), Vec::new());
    for token in 0..t {
        let tile = layout.tile(memory.as_mut_ptr(), token / layout.width);
        let lane = (token - tile.token) * layout.halves;
        // SAFETY: `quantize` has written the codes and scales of this lane.
        unsafe {
            let code = |i: usize, lane| match layout.quad {
                8 => code_at::<i16>(tile, i, lane),
                _ => i16::from(code_at::<i8>(tile, i, lane)),
            };
            codes.extend((0..k).map(|i| match layout.halves {
                1 => code(i, lane),
                _ => code(i, lane) * 256 + code(i, lane + 1),
            }));
            scales.extend((0..layout.groups).map(|g| *tile.scales.add(g * tile.lanes + lane)));
        }
    }
    QuantizedActivations { codes, scales }
}

dot_kernel! {
    /// Quantizes the tokens of one tile.
    ///
    /// # Safety
    /// `x` holds the tile's tokens, `tile` was made by `layout`, `row` has `2 * layout.row()` bytes.
    unsafe fn quantize_tile(layout: &Layout, x: *const f32, tile: Tile, row: *mut i8)
        = quantize_tile_on;
}

#[inline(always)]
unsafe fn quantize_tile_on<V: Dot>(layout: &Layout, x: *const f32, tile: Tile, row: *mut i8) {
    let (k, halves) = (layout.cut.k, layout.halves);
    for lane in (0..tile.lanes).step_by(halves) {
        // SAFETY: the caller's contract. Sixteen codes stored at the end of a group or a row are
        // followed by more of the row's bytes.
        unsafe {
            let x = x.add(lane / halves * k);
            let low = row.add(layout.row());
            let words: *mut i16 = row.cast();
            let (mut start, mut group) = (0, 0);
            while start < k {
                let end = k.min(start + layout.cut.activation);
                let (x, len, bits) = (x.add(start), end - start, layout.bits);
                let scale = match (V::QUAD, bits) {
                    (8, _) => {
                        let words = words.add(start);
                        quantize_group::<V>(x, len, bits, |v, i| V::store_words(v, words.add(i)))
                    }
                    (_, ActivationBits::Eight) => {
                        let row = row.add(start);
                        quantize_group::<V>(x, len, bits, |v, i| V::store_codes(v, row.add(i)))
                    }
                    (_, ActivationBits::Sixteen) => {
                        let (row, low) = (row.add(start), low.add(start));
                        quantize_group::<V>(x, len, bits, |v, i| {
                            V::store_wide_codes(v, row.add(i), low.add(i));
                        })
                    }
                };
                for half in 0..halves {
                    *tile.scales.add(group * tile.lanes + lane + half) = scale;
                }
                (start, group) = (end, group + 1);
            }
            if k == 0 {
                (0..halves).for_each(|half| *tile.scales.add(lane + half) = 1.0);
            }
            match V::QUAD {
                8 => lay_out_words(layout, tile, lane, words),
                _ => lay_out_bytes(layout, tile, lane, row),
            }
        }
    }
}

/// Lays out a token's codes, or the halves of them, which begin [`Layout::row`] bytes apart, and
/// writes what follows from their sums.
///
/// # Safety
/// `tile` was made by `layout` for lanes of i8 and has the token's lanes from `lane` on; `row` has room
/// for all quads of each half.
#[inline(always)]
unsafe fn lay_out_bytes(layout: &Layout, tile: Tile, lane: usize, row: *mut i8) {
    let (k, halves, padded) = (layout.cut.k, layout.halves, layout.quads * 4);
    // SAFETY: the caller's contract.
    unsafe {
        for half in 0..halves {
            let row = row.add(half * layout.row());
            std::slice::from_raw_parts_mut(row.add(k), padded - k).fill(0);
            let to = tile.codes.cast::<[i8; 4]>().add(lane + half);
            for quad in 0..layout.quads {
                *to.add(quad * tile.lanes) = *row.cast::<[i8; 4]>().add(quad);
            }
        }
        for (index, segment) in layout.cut.segments().enumerate() {
            let mut total = 0i32;
            for half in 0..halves {
                let codes = row.add(half * layout.row() + segment.start);
                let codes = std::slice::from_raw_parts(codes, segment.end - segment.start);
                let sum = codes.iter().fold(0i32, |sum, &code| sum + i32::from(code));
                let at = index * tile.lanes + lane + half;
                *tile.starts.add(at) = sum.wrapping_mul(layout.factor);
                total = total * 256 + sum;
            }
            for half in 0..halves {
                *tile.sums.add(index * tile.lanes + lane + half) = total as f32;
            }
        }
    }
}

/// As [`lay_out_bytes`] for lanes of i16, with the quads of `row` in their order already. What fills up
/// the last quad is 0: sixteen codes are stored at a time.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn lay_out_words(layout: &Layout, tile: Tile, lane: usize, row: *const i16) {
    let high = |code: i16| (i32::from(code) + 128) >> 8;
    let low = |code: i16| i32::from(code) - 256 * high(code);
    // SAFETY: the caller's contract.
    unsafe {
        let (from, to) = (row.cast::<[i16; 4]>(), tile.codes.cast::<[i16; 4]>().add(lane));
        for quad in 0..layout.quads {
            let (codes, to) = (*from.add(quad), to.add(quad * tile.lanes));
            match layout.halves {
                1 => *to = codes,
                _ => {
                    *to = codes.map(|code| high(code) as i16);
                    *to.add(1) = codes.map(|code| low(code) as i16);
                }
            }
        }
        for (index, segment) in layout.cut.segments().enumerate() {
            // Segments are whole quads but for the last one.
            let len = (segment.end - segment.start).next_multiple_of(4);
            let codes = std::slice::from_raw_parts(row.add(segment.start), len);
            let total = codes.iter().fold(0i32, |sum, &code| sum + i32::from(code));
            let at = index * tile.lanes + lane;
            *tile.sums.add(at) = total as f32;
            *tile.starts.add(at) = total.wrapping_mul(layout.factor);
            if layout.halves == 2 {
                let high = codes.iter().fold(0i32, |sum, &code| sum + high(code));
                *tile.sums.add(at + 1) = total as f32;
                *tile.starts.add(at) = high.wrapping_mul(layout.factor);
                *tile.starts.add(at + 1) = (total - 256 * high).wrapping_mul(layout.factor);
            }
        }
    }
}

/// Scales a group of `len` activations to codes, which `store` takes by sixteens with the place of the
/// first, and returns its scale.
///
/// # Safety
/// `x` has `len` elements, and `store` can take that many codes, rounded up to 16.
#[inline(always)]
unsafe fn quantize_group<V: Dot>(
    x: *const f32,
    len: usize,
    bits: ActivationBits,
    store: impl Fn(V::Float, usize),
) -> f32 {
    let whole = len / LANES * LANES;
    let most = bits.largest() as f32;
    // SAFETY: the caller's contract.
    unsafe {
        let zero = V::Float::zero();
        // `poison` stays zero unless there is NaN or an infinity, which have no largest element.
        let (mut largest, mut poison) = (zero, zero);
        for i in (0..whole).step_by(LANES) {
            let v = V::Float::load(x.add(i));
            largest = v.max(zero.sub(v)).max(largest);
            poison = v.fma(zero, poison);
        }
        if whole < len {
            let v = V::Float::load_part(x.add(whole), len - whole);
            largest = v.max(zero.sub(v)).max(largest);
            poison = v.fma(zero, poison);
        }
        let mut scale = largest.reduce_max() / most + poison.reduce_add();
        if scale == 0.0 {
            scale = 1.0;
        }
        let (scales, high, lowest) =
            (V::Float::splat(scale), V::Float::splat(most), V::Float::splat(-most));
        for i in (0..len).step_by(LANES) {
            let v = match i < whole {
                true => V::Float::load(x.add(i)),
                false => V::Float::load_part(x.add(i), len - i),
            };
            // NaN becomes the largest code; its scale is NaN.
            store(v.div(scales).min(high).max(lowest), i);
        }
        scale
    }
}
