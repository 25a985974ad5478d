//! Many tokens: all channels, a block of weights in the cache at a time.
//!
//! A block is first widened to f32 in scratch memory, where the rows of a register tile are one stream.
//! Register tiles have rows of `W` in the lanes and take one channel after the other; what they have
//! summed up waits in `y` for the next piece of `K`.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use std::ops::Range;

use super::super::super::element::Element;
use super::super::super::isa::{Isa, kernel};
use super::super::super::scratch::with_scratch;
use super::super::super::simd::{LANES, Simd};
use super::super::super::team;
use super::{CHANNEL_TILE_STEP, Problem, each_stripe};

/// Rows and channels of a block: 256 KiB of f32, which fit a second-level cache of 512 KiB.
const BLOCK_ROWS: usize = 256;
/// See [`BLOCK_ROWS`].
const BLOCK_CHANNELS: usize = 256;
/// Tokens of a register tile.
const TOKENS: usize = 6;

/// Splits the rows over the team.
pub(super) fn run<W: Element>(isa: Isa, p: &Problem<W>) {
    let sizes = p.sizes;
    let fair = sizes.n.div_ceil(team::num_threads() * 4).next_multiple_of(CHANNEL_TILE_STEP);
    each_stripe(sizes, fair.min(BLOCK_ROWS).min(sizes.tile_rows), |rows| {
        let channels = BLOCK_CHANNELS.min(sizes.k);
        with_scratch(rows.len().next_multiple_of(LANES) * channels, |block| {
            // SAFETY: `linear_channels` has checked the lengths, the tasks' rows are disjoint and in
            // one tile, and the scratch has room for a block.
            unsafe { stripe(isa, p, rows, block.as_mut_ptr()) };
        });
    });
}

kernel! {
    /// The outputs of a stripe of rows for all tokens.
    ///
    /// # Safety
    /// The slices behind `p` have their lengths, `rows` lie in one tile and no one else writes their
    /// outputs; `block` has an element for each row (their number rounded up to LANES) and each of
    /// up to BLOCK_CHANNELS channels.
    unsafe fn stripe<W: Element>(p: &Problem<W>, rows: Range<usize>, block: *mut f32) = stripe_on;
}

#[inline(always)]
unsafe fn stripe_on<S: Simd, W: Element>(p: &Problem<W>, rows: Range<usize>, block: *mut f32) {
    let (k, stride) = (p.sizes.k, p.sizes.tile_rows);
    let weights = p.run_of(rows.start);
    let mut channel = 0;
    loop {
        let len = BLOCK_CHANNELS.min(k - channel);
        let part = Part { channel, len, first: channel == 0, last: channel + len == k };
        let from = weights.wrapping_add(channel * stride);
        // SAFETY: the rows and the channels of the part exist; the block has room for them.
        unsafe {
            widen::<S, W>(from, stride, &rows, len, block);
            tiles::<S, W>(p, &rows, &part, block);
        }
        channel += len;
        if part.last {
            break;
        }
    }
}

/// Some channels of `W` and of `x`.
struct Part {
    channel: usize,
    len: usize,
    /// Whether sums start at zero.
    first: bool,
    /// Whether sums are finished.
    last: bool,
}

/// Copies `len` runs of `rows`, `stride` apart, to `block: [vectors of rows, len, LANES]`.
#[inline(always)]
unsafe fn widen<S: Simd, W: Element>(
    from: *const W,
    stride: usize,
    rows: &Range<usize>,
    len: usize,
    block: *mut f32,
) {
    for channel in 0..len {
        for vector in 0..rows.len().div_ceil(LANES) {
            // SAFETY: a tile is a multiple of sixteen rows, so that whole vectors lie in it.
            unsafe {
                let weights: S = W::load(from.add(channel * stride + vector * LANES));
                weights.store(block.add((vector * len + channel) * LANES));
            }
        }
    }
}

/// Runs every register tile over one block.
#[inline(always)]
unsafe fn tiles<S: Simd, W: Element>(
    p: &Problem<W>,
    rows: &Range<usize>,
    part: &Part,
    block: *const f32,
) {
    let wide = if S::WIDE { 4 } else { 1 };
    let vectors = rows.len().div_ceil(LANES);
    for token in (0..p.sizes.t).step_by(TOKENS) {
        let tokens = TOKENS.min(p.sizes.t - token);
        let mut vector = 0;
        while vector < vectors {
            let at = At { token, row: rows.start + vector * LANES };
            // SAFETY: the caller's contract; the tokens and the vectors exist.
            unsafe {
                let weights = block.add(vector * part.len * LANES);
                if wide > 1 && vector + wide <= vectors {
                    some_tokens::<S, W, 4>(p, part, weights, at, tokens);
                    vector += 4;
                } else {
                    some_tokens::<S, W, 1>(p, part, weights, at, tokens);
                    vector += 1;
                }
            }
        }
    }
}

/// Where the outputs of a register tile begin.
#[derive(Clone, Copy)]
struct At {
    token: usize,
    row: usize,
}

/// A register tile of `1..=TOKENS` tokens and `V` vectors of rows.
#[inline(always)]
unsafe fn some_tokens<S: Simd, W: Element, const V: usize>(
    p: &Problem<W>,
    part: &Part,
    weights: *const f32,
    at: At,
    tokens: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match tokens {
            1 => tile::<S, W, 1, V>(p, part, weights, at),
            2 => tile::<S, W, 2, V>(p, part, weights, at),
            3 => tile::<S, W, 3, V>(p, part, weights, at),
            4 => tile::<S, W, 4, V>(p, part, weights, at),
            5 => tile::<S, W, 5, V>(p, part, weights, at),
            _ => tile::<S, W, 6, V>(p, part, weights, at),
        }
    }
}

/// `T` tokens times `V` vectors of rows.
#[inline(always)]
unsafe fn tile<S: Simd, W: Element, const T: usize, const V: usize>(
    p: &Problem<W>,
    part: &Part,
    weights: *const f32,
    at: At,
) {
    let (n, k) = (p.sizes.n, p.sizes.k);
    // SAFETY: the tokens, rows and channels exist. Outputs past the last row are neither loaded nor
    // stored.
    unsafe {
        let x = p.x.add(at.token * k + part.channel);
        let left = |v: usize| n.saturating_sub(at.row + v * LANES);
        let y =
            |t: usize, v: usize| p.y.get().wrapping_add((at.token + t) * n + at.row + v * LANES);
        let mut sums = [[S::zero(); V]; T];
        if !part.first {
            for t in 0..T {
                for v in 0..V {
                    sums[t][v] = match left(v) {
                        0 => S::zero(),
                        left if left < LANES => S::load_part(y(t, v), left),
                        _ => S::load(y(t, v)),
                    };
                }
            }
        }
        for channel in 0..part.len {
            let mut w = [S::zero(); V];
            for v in 0..V {
                w[v] = S::load(weights.add((v * part.len + channel) * LANES));
            }
            for t in 0..T {
                let x = S::splat(*x.add(t * k + channel));
                for v in 0..V {
                    sums[t][v] = x.fma(w[v], sums[t][v]);
                }
            }
        }
        for t in 0..T {
            for v in 0..V {
                match left(v) {
                    0 => {}
                    _ if part.last => p.finish(at.token + t, at.row + v * LANES, sums[t][v]),
                    left if left < LANES => sums[t][v].store_part(y(t, v), left),
                    _ => sums[t][v].store(y(t, v)),
                }
            }
        }
    }
}
