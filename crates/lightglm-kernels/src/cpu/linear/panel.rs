//! Many tokens: tiles run over a block of rows of `W` that stays in the cache.
//!
//! Where registers are few, weights are widened once into a panel of f32. With 32 registers of 16
//! lanes a tile widens them itself for nothing, and half the bytes come from the cache.

use std::ops::Range;

use super::super::element::Element;
use super::super::isa::{Isa, kernel};
use super::super::simd::{LANES, Simd};
use super::{Problem, tile};

/// Bytes of a block of rows at most: together with the tokens of a tile it fits a second-level
/// cache of 512 KiB.
const MAX_BLOCK: usize = 256 * 1024;
/// Rows of a block at least, so that a tile's tokens are used more than once, ...
const MIN_ROWS: usize = 16;
/// ... and at most: after that, it makes no difference.
const MAX_ROWS: usize = 64;
/// `K` is cut in pieces of at most this, so that a tile's tokens stay in the second-level cache, ...
const MAX_PIECE: usize = 4096;
/// ... or in the first, where f32 weights come in from the second at the same time.
const MAX_F32_PIECE: usize = 1024;

/// How the work is cut.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Rows of a block.
    pub(super) rows: usize,
    /// Columns of a piece, a multiple of [`LANES`].
    piece: usize,
    /// f32 elements of the panel; 0 where `W` is read as it is stored.
    panel: usize,
    /// f32 elements of the partial sums kept between pieces.
    sums: usize,
}

impl Plan {
    /// For `[t, k]` activations and `[n, k]` weights of type `W`.
    pub(super) fn new<W: Element>(isa: Isa, [t, n, k]: [usize; 3], threads: usize) -> Self {
        let widened = !isa.is_wide();
        let wide_rows = widened || W::IS_F32;
        let pieces = k.div_ceil(if wide_rows { MAX_F32_PIECE } else { MAX_PIECE }).max(1);
        let piece = k.div_ceil(pieces).next_multiple_of(LANES);
        let row_bytes = piece * if widened { size_of::<f32>() } else { size_of::<W>() };
        let fitting = (MAX_BLOCK / row_bytes.max(1)).clamp(MIN_ROWS, MAX_ROWS);
        let fair = n.div_ceil(threads * 4).next_multiple_of(tile::ROWS);
        let rows = fair.min(fitting / tile::ROWS * tile::ROWS);
        // The smallest tile on any instruction set has three tokens.
        let tiles = t.div_ceil(3) * rows.div_ceil(tile::ROWS);
        let sums = if pieces > 1 { tiles * SUMS_OF_TILE } else { 0 };
        Self { rows, piece, panel: if widened { rows * piece } else { 0 }, sums }
    }

    /// f32 elements of scratch that a block needs.
    pub(super) fn scratch(self) -> usize {
        self.panel + self.sums
    }
}

kernel! {
    /// Computes the outputs of some rows of `w` for all tokens.
    ///
    /// # Safety
    /// The slices behind `p` have their lengths, no one else writes these columns of `y`, `plan` was
    /// made for `p` and has at least as many rows, and `scratch` has the length it asks for.
    pub(super) unsafe fn panel_block<W: Element>(
        p: &Problem<W>, rows: Range<usize>, plan: Plan, scratch: &mut [f32],
    ) = panel_block_on;
}

/// See [`panel_block`].
#[inline(always)]
unsafe fn panel_block_on<S: Simd, W: Element>(
    p: &Problem<W>,
    rows: Range<usize>,
    plan: Plan,
    scratch: &mut [f32],
) {
    let piece = plan.piece;
    let (panel, sums) = scratch.split_at_mut(plan.panel);
    let mut k = 0;
    loop {
        let len = piece.min(p.k - k);
        let last = k + len == p.k;
        let part = Part { k, len, first: k == 0, last };
        // SAFETY: rows and the piece of K lie inside of the operands; the panel, if there is one,
        // has `piece` columns for each row, and `sums` a place for each tile.
        unsafe {
            if plan.panel > 0 {
                widen::<S, W>(p, rows.clone(), k, len, panel.as_mut_ptr(), piece);
                tiles::<S, W, f32>(p, &rows, &part, panel.as_ptr(), piece, sums.as_mut_ptr());
            } else {
                let w = p.w.add(rows.start * p.k + k);
                tiles::<S, W, W>(p, &rows, &part, w, p.k, sums.as_mut_ptr());
            }
        }
        if last {
            break;
        }
        k += len;
    }
}

/// Elements that the partial sums of one tile take at most.
const SUMS_OF_TILE: usize = 6 * tile::ROWS * LANES;

/// The columns `k..k + len` of `W` and of `x`.
struct Part {
    k: usize,
    len: usize,
    first: bool,
    last: bool,
}

/// Runs every tile of the block over one piece of `K`; `w` points at the block's first row.
#[inline(always)]
unsafe fn tiles<S: Simd, W: Element, E: Element>(
    p: &Problem<W>,
    rows: &Range<usize>,
    part: &Part,
    w: *const E,
    w_stride: usize,
    mut sums: *mut f32,
) {
    let mut t = 0;
    while t < p.t {
        let tokens = tile::max_tokens::<S>().min(p.t - t);
        let mut n = rows.start;
        while n < rows.end {
            let count = tile::ROWS.min(rows.end - n);
            // SAFETY: the caller's contract; tile `i` has the `i`-th place in `sums`.
            unsafe {
                let operands = tile::Operands {
                    x: p.x.add(t * p.x_stride + part.k),
                    x_stride: p.x_stride,
                    w: w.add((n - rows.start) * w_stride),
                    w_stride,
                    ahead: tile::ROWS * w_stride,
                    k: part.len,
                    y: p.y.get().add(t * p.n + n),
                    y_stride: p.n,
                    row_step: 1,
                    bias: if p.bias.is_null() { p.bias } else { p.bias.add(n) },
                    sums,
                    first: part.first,
                    last: part.last,
                };
                let ahead = p.x.wrapping_add((t + tokens) * p.x_stride + part.k);
                let share = (n - rows.start) / tile::ROWS..rows.len().div_ceil(tile::ROWS);
                prefetch_share::<S>(ahead, p.x_stride, tokens, part.len, share);
                if !part.first {
                    for line in 0..SUMS_OF_TILE / LANES {
                        S::prefetch(sums.wrapping_add(SUMS_OF_TILE + line * LANES).cast());
                    }
                }
                tile::tokens::<S, E>(operands, tokens, count);
                if !(part.first && part.last) {
                    sums = sums.add(SUMS_OF_TILE);
                }
            }
            n += count;
        }
        t += tokens;
    }
}

/// Asks for one share of the next tile's tokens: share `share.start` of `share.end` equal ones.
///
/// By the time the last row tile of this token tile is done, the next tokens are near.
#[inline(always)]
unsafe fn prefetch_share<S: Simd>(
    x: *const f32,
    stride: usize,
    tokens: usize,
    len: usize,
    share: Range<usize>,
) {
    let lines = len.div_ceil(LANES);
    let per_share = (tokens * lines).div_ceil(share.end);
    let first = share.start * per_share;
    let (mut token, mut line) = (first / lines.max(1), first % lines.max(1));
    for _ in 0..per_share {
        // SAFETY: any address may be asked for.
        unsafe { S::prefetch(x.wrapping_add(token * stride + line * LANES).cast()) };
        line += 1;
        if line == lines {
            (token, line) = (token + 1, 0);
        }
    }
}

/// Copies columns `k..k + len` of `rows` into the panel as f32.
#[inline(always)]
unsafe fn widen<S: Simd, W: Element>(
    p: &Problem<W>,
    rows: Range<usize>,
    k: usize,
    len: usize,
    panel: *mut f32,
    piece: usize,
) {
    for (i, row) in rows.enumerate() {
        // SAFETY: the caller's contract; a partial vector writes zeros up to the piece's padding.
        unsafe {
            let from = p.w.add(row * p.k + k);
            let to = panel.add(i * piece);
            let mut j = 0;
            while j + LANES <= len {
                W::load::<S>(from.add(j)).store(to.add(j));
                j += LANES;
            }
            if j < len {
                W::load_part::<S>(from.add(j), len - j).store(to.add(j));
            }
        }
    }
}
