//! One token or two: only the channels that are not zero.
//!
//! The sums of a stripe of rows stay in the first-level cache. Four runs are read side by side, so
//! that a sum is loaded and stored once for four products, and the runs to come are asked for by
//! name: which they are, the processor cannot guess.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use std::ops::Range;

use super::super::super::element::Element;
use super::super::super::isa::{Isa, kernel};
use super::super::super::scratch::with_scratch;
use super::super::super::simd::{LANES, Simd};
use super::{CHANNEL_TILE_STEP, Problem, each_stripe};

/// Runs that are read side by side.
const RUNS: usize = 4;
/// How far ahead of the arithmetic memory is asked for, in bytes, ...
const AHEAD: usize = 32 * 1024;
/// ... and in channels at most.
const MAX_AHEAD: usize = 64;

/// The channels of which some token's `x` is not zero.
struct Active {
    /// In their order; and [`MAX_AHEAD`] more, for looking ahead.
    channels: *const u32,
    /// `[active channels, T]`.
    values: *const f32,
    count: usize,
}

// SAFETY: the pointers are into the scratch of the calling thread, which is only read while the
// team works.
unsafe impl Sync for Active {}

/// Finds the active channels and splits the rows over the team.
pub(super) fn run<W: Element>(isa: Isa, p: &Problem<W>, x: &[f32]) {
    let (t, k) = (p.sizes.t, p.sizes.k);
    with_scratch(k + MAX_AHEAD + t * k, |memory| {
        let (channels, values) = memory.split_at_mut(k + MAX_AHEAD);
        // SAFETY: f32 and u32 have the same size and alignment, and every pattern of bits is a u32.
        let channels = unsafe {
            std::slice::from_raw_parts_mut(channels.as_mut_ptr().cast::<u32>(), channels.len())
        };
        let count = list(x, t, channels, values);
        let active = Active { channels: channels.as_ptr(), values: values.as_ptr(), count };
        each_stripe(p.sizes, p.sizes.stripe_rows(), |rows| {
            with_scratch(t * rows.len().next_multiple_of(CHANNEL_TILE_STEP), |sums| {
                sums.fill(0.0);
                // SAFETY: `linear_channels` has checked the lengths, the tasks' rows are disjoint and
                // in one tile, `list` writes channels below `k`, and `sums` is long enough.
                unsafe { stripe(isa, p, &active, rows, sums.as_mut_ptr()) };
            });
        });
    });
}

/// Writes the active channels of `x: [t, k]` and their values as [`Active`] says; how many they are.
fn list(x: &[f32], t: usize, channels: &mut [u32], values: &mut [f32]) -> usize {
    let k = x.len() / t;
    let mut count = 0;
    // Written in any case and counted if active: a branch would be guessed wrong half of the time.
    for channel in 0..k {
        let any = (0..t).any(|token| x[token * k + channel] != 0.0);
        channels[count] = channel as u32;
        count += usize::from(any);
    }
    for (i, &channel) in channels[..count].iter().enumerate() {
        for token in 0..t {
            values[i * t + token] = x[token * k + channel as usize];
        }
    }
    let last = if count > 0 { channels[count - 1] } else { 0 };
    channels[count..count + MAX_AHEAD].fill(last);
    count
}

kernel! {
    /// The outputs of a stripe of rows.
    ///
    /// # Safety
    /// The slices behind `p` have their lengths, there are one or two tokens, `rows` lie in one tile
    /// and no one else writes their outputs; `active` is a list of channels; `sums` is zeroed and has
    /// `[rows, rounded up to CHANNEL_TILE_STEP; T]` elements.
    unsafe fn stripe<W: Element>(
        p: &Problem<W>, active: &Active, rows: Range<usize>, sums: *mut f32,
    ) = stripe_on;
}

#[inline(always)]
unsafe fn stripe_on<S: Simd, W: Element>(
    p: &Problem<W>,
    active: &Active,
    rows: Range<usize>,
    sums: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match p.sizes.t {
            1 => tokens::<S, W, 1>(p, active, rows, sums),
            _ => tokens::<S, W, 2>(p, active, rows, sums),
        }
    }
}

/// [`stripe`] of `T` tokens.
#[inline(always)]
unsafe fn tokens<S: Simd, W: Element, const T: usize>(
    p: &Problem<W>,
    active: &Active,
    rows: Range<usize>,
    sums: *mut f32,
) {
    let steps = rows.len().div_ceil(CHANNEL_TILE_STEP);
    let run = steps * CHANNEL_TILE_STEP * size_of::<W>();
    let ahead = (AHEAD / run).clamp(1, MAX_AHEAD / RUNS - 1) * RUNS;
    let stripe = Stripe { weights: p.run_of(rows.start), stride: p.sizes.tile_rows, steps, sums };
    // SAFETY: the caller's contract; a tile is a multiple of steps, so that whole steps lie in it.
    unsafe {
        for i in 0..ahead.min(active.count) {
            let run = stripe.run(*active.channels.add(i));
            for step in 0..steps {
                prefetch_step::<S, W>(run, step);
            }
        }
        let mut i = 0;
        while i + RUNS <= active.count {
            runs::<S, W, T, RUNS>(&stripe, active, i, ahead);
            i += RUNS;
        }
        while i < active.count {
            runs::<S, W, T, 1>(&stripe, active, i, ahead);
            i += 1;
        }
        for row in rows.clone().step_by(LANES) {
            for t in 0..T {
                p.finish(t, row, S::load(stripe.sums_of::<T>(row - rows.start, t)));
            }
        }
    }
}

/// Rows of one tile.
struct Stripe<W> {
    /// The weights of channel 0.
    weights: *const W,
    /// Elements from a channel to the next.
    stride: usize,
    /// Times [`CHANNEL_TILE_STEP`] rows.
    steps: usize,
    /// `[vectors of rows, T, LANES]`.
    sums: *mut f32,
}

impl<W> Stripe<W> {
    #[inline(always)]
    fn run(&self, channel: u32) -> *const W {
        self.weights.wrapping_add(channel as usize * self.stride)
    }

    #[inline(always)]
    fn sums_of<const T: usize>(&self, row: usize, token: usize) -> *mut f32 {
        self.sums.wrapping_add(row * T + token * LANES)
    }
}

/// Adds the products of `C` active channels from `index` on.
#[inline(always)]
unsafe fn runs<S: Simd, W: Element, const T: usize, const C: usize>(
    stripe: &Stripe<W>,
    active: &Active,
    index: usize,
    ahead: usize,
) {
    // SAFETY: the channels from `index` on exist, and as many `ahead` of them are in the list.
    unsafe {
        let channels = active.channels.add(index);
        let (mut run, mut next) = ([stripe.weights; C], [stripe.weights; C]);
        let mut x = [[S::zero(); C]; T];
        for c in 0..C {
            run[c] = stripe.run(*channels.add(c));
            next[c] = stripe.run(*channels.add(ahead + c));
            for t in 0..T {
                x[t][c] = S::splat(*active.values.add((index + c) * T + t));
            }
        }
        for step in 0..stripe.steps {
            for c in 0..C {
                prefetch_step::<S, W>(next[c], step);
            }
            for row in (step * CHANNEL_TILE_STEP..(step + 1) * CHANNEL_TILE_STEP).step_by(LANES) {
                let mut sums = [S::zero(); T];
                for t in 0..T {
                    sums[t] = S::load(stripe.sums_of::<T>(row, t));
                }
                for c in 0..C {
                    let w: S = W::load(run[c].add(row));
                    for t in 0..T {
                        sums[t] = x[t][c].fma(w, sums[t]);
                    }
                }
                for t in 0..T {
                    sums[t].store(stripe.sums_of::<T>(row, t));
                }
            }
        }
    }
}

/// Asks for the lines of one step of a run.
#[inline(always)]
unsafe fn prefetch_step<S: Simd, W: Element>(run: *const W, step: usize) {
    let start = run.wrapping_add(step * CHANNEL_TILE_STEP).cast::<u8>();
    for line in 0..CHANNEL_TILE_STEP * size_of::<W>() / 64 {
        // SAFETY: any address may be asked for.
        unsafe { S::prefetch(start.wrapping_add(line * 64)) };
    }
}
