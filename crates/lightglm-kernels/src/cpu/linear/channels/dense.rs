//! Three tokens and more: all channels, a block of weights in the cache at a time.
//!
//! Register tiles have rows of `W` in the lanes and take one channel after the other; what they have
//! summed up waits in `y` for the next piece of `K`. With many tokens a block is first widened to f32
//! in scratch memory, where the rows of a tile are one stream; with few it is read where it lies.
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

/// From this many tokens on, a block is widened first.
const BLOCK_TOKENS: usize = 32;
/// Bytes of a block that is read where it lies: it and the next one fit a second-level cache of
/// 512 KiB.
const DIRECT_BLOCK: usize = 128 * 1024;
/// Rows and channels of a block that is widened, 256 KiB of it.
const BLOCK_ROWS: usize = 256;
/// See [`BLOCK_ROWS`].
const BLOCK_CHANNELS: usize = 256;
/// Tokens of a register tile.
const TOKENS: usize = 6;

/// How the work of a stripe is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Channels of a piece.
    piece: usize,
    /// Whether a block is widened to f32 first.
    widened: bool,
}

/// Splits the rows over the team.
pub(super) fn run<W: Element>(isa: Isa, p: &Problem<W>) {
    let (sizes, threads) = (p.sizes, team::num_threads());
    let widened = sizes.t >= BLOCK_TOKENS;
    let (rows, piece) = if widened {
        let fair = sizes.n.div_ceil(threads * 4).next_multiple_of(CHANNEL_TILE_STEP);
        (fair.min(BLOCK_ROWS).min(sizes.tile_rows), BLOCK_CHANNELS)
    } else {
        let rows = sizes.stripe_rows();
        (rows, (DIRECT_BLOCK / (rows * size_of::<W>())).max(1))
    };
    let plan = Plan { piece: piece.min(sizes.k), widened };
    each_stripe(sizes, rows, |rows| {
        let padded = rows.len().next_multiple_of(CHANNEL_TILE_STEP);
        with_scratch(if widened { padded * plan.piece } else { 0 }, |block| {
            // SAFETY: `linear_channels` has checked the lengths, the tasks' rows are disjoint and in
            // one tile, and the scratch has room for a block.
            unsafe { stripe(isa, p, rows, plan, block.as_mut_ptr()) };
        });
    });
}

kernel! {
    /// The outputs of a stripe of rows for all tokens.
    ///
    /// # Safety
    /// The slices behind `p` have their lengths, `rows` lie in one tile and no one else writes their
    /// outputs; `block` has `plan.piece` elements for each row (rounded up to CHANNEL_TILE_STEP)
    /// where blocks are widened.
    unsafe fn stripe<W: Element>(
        p: &Problem<W>, rows: Range<usize>, plan: Plan, block: *mut f32,
    ) = stripe_on;
}

#[inline(always)]
unsafe fn stripe_on<S: Simd, W: Element>(
    p: &Problem<W>,
    rows: Range<usize>,
    plan: Plan,
    block: *mut f32,
) {
    let (k, stride) = (p.sizes.k, p.sizes.tile_rows);
    let weights = p.run_of(rows.start);
    let mut channel = 0;
    loop {
        let len = plan.piece.min(k - channel);
        let part = Part { channel, len, first: channel == 0, last: channel + len == k };
        let from = weights.wrapping_add(channel * stride);
        // SAFETY: the rows and the channels of the part exist; the block has room for them.
        unsafe {
            if plan.widened {
                widen::<S, W>(from, stride, &rows, len, block);
                let block = Block { from: block.cast_const(), channel: LANES, vector: len * LANES };
                tiles::<S, W, f32>(p, &rows, &part, &block, std::ptr::null());
            } else {
                let block = Block { from, channel: stride, vector: LANES };
                let next = from.wrapping_add(len * stride);
                tiles::<S, W, W>(p, &rows, &part, &block, next);
            }
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

/// The weights of a stripe for some channels.
struct Block<E> {
    from: *const E,
    /// Elements from a channel to the next.
    channel: usize,
    /// Elements from sixteen rows to the next sixteen.
    vector: usize,
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

/// Runs every register tile over one block; meanwhile asks for what lies at `next`, if anything.
#[inline(always)]
unsafe fn tiles<S: Simd, W: Element, E: Element>(
    p: &Problem<W>,
    rows: &Range<usize>,
    part: &Part,
    block: &Block<E>,
    next: *const W,
) {
    let wide = if S::WIDE { 4 } else { 1 };
    let vectors = rows.len().div_ceil(LANES);
    let tiles = p.sizes.t.div_ceil(TOKENS) * vectors.div_ceil(wide);
    let mut ahead = Ahead::new(next, p.sizes.tile_rows, rows.len(), part.len, tiles);
    let mut token = 0;
    while token < p.sizes.t {
        let tokens = TOKENS.min(p.sizes.t - token);
        let mut vector = 0;
        while vector < vectors {
            let count = if vector + wide <= vectors { wide } else { 1 };
            let weights = block.from.wrapping_add(vector * block.vector);
            // SAFETY: the caller's contract; the tokens and the vectors exist.
            unsafe {
                if !next.is_null() && !part.last {
                    ahead.prefetch::<S>();
                }
                let at = At { token, row: rows.start + vector * LANES };
                match count {
                    4 => some_tokens::<S, W, E, 4>(p, part, block, weights, at, tokens),
                    _ => some_tokens::<S, W, E, 1>(p, part, block, weights, at, tokens),
                }
            }
            vector += count;
        }
        token += tokens;
    }
}

/// Lines that are asked for, a share with each register tile.
struct Ahead<W> {
    from: *const W,
    stride: usize,
    /// Lines of a run and in all.
    run: usize,
    lines: usize,
    /// The next one, and how many a time.
    line: usize,
    share: usize,
}

impl<W: Element> Ahead<W> {
    fn new(from: *const W, stride: usize, rows: usize, channels: usize, shares: usize) -> Self {
        let run = (rows * size_of::<W>()).div_ceil(64);
        let lines = run * channels;
        Self { from, stride, run, lines, line: 0, share: lines.div_ceil(shares.max(1)) }
    }

    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&mut self) {
        let end = self.lines.min(self.line + self.share);
        let (mut channel, mut within) = (self.line / self.run, self.line % self.run);
        for _ in self.line..end {
            let run = self.from.wrapping_add(channel * self.stride).cast::<u8>();
            // SAFETY: any address may be asked for.
            unsafe { S::prefetch(run.wrapping_add(within * 64)) };
            within += 1;
            if within == self.run {
                (channel, within) = (channel + 1, 0);
            }
        }
        self.line = end;
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
unsafe fn some_tokens<S: Simd, W: Element, E: Element, const V: usize>(
    p: &Problem<W>,
    part: &Part,
    block: &Block<E>,
    weights: *const E,
    at: At,
    tokens: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match tokens {
            1 => tile::<S, W, E, 1, V>(p, part, block, weights, at),
            2 => tile::<S, W, E, 2, V>(p, part, block, weights, at),
            3 => tile::<S, W, E, 3, V>(p, part, block, weights, at),
            4 => tile::<S, W, E, 4, V>(p, part, block, weights, at),
            5 => tile::<S, W, E, 5, V>(p, part, block, weights, at),
            _ => tile::<S, W, E, 6, V>(p, part, block, weights, at),
        }
    }
}

/// `T` tokens times `V` vectors of rows.
#[inline(always)]
unsafe fn tile<S: Simd, W: Element, E: Element, const T: usize, const V: usize>(
    p: &Problem<W>,
    part: &Part,
    block: &Block<E>,
    weights: *const E,
    at: At,
) {
    let (n, k) = (p.sizes.n, p.sizes.k);
    // SAFETY: the tokens, rows and channels exist. Outputs past the last row are neither loaded nor
    // stored; where whole vectors reach past it, tiles are filled up.
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
                w[v] = E::load(weights.add(channel * block.channel + v * block.vector));
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
