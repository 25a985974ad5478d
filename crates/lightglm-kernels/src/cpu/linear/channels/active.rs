//! Few tokens: only the channels that are not zero for all of them.
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
/// Tokens whose sums are added to side by side.
const GROUP: usize = 4;
/// Bytes of the runs that one group of tokens after the other is multiplied with: they stay in the
/// second-level cache.
const PIECE: usize = 128 * 1024;
/// How far ahead of the arithmetic memory is asked for, in bytes, ...
const AHEAD: usize = 32 * 1024;
/// ... and in channels at most.
const MAX_AHEAD: usize = 64;

/// The channels of which some token's `x` is not zero.
struct Active {
    /// In their order; and [`MAX_AHEAD`] more, for looking ahead.
    channels: *const u32,
    /// `[group of tokens, active channel, token of the group]`.
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
    for first in (0..t).step_by(GROUP) {
        let tokens = GROUP.min(t - first);
        let values = values[first * count..][..tokens * count].chunks_exact_mut(tokens);
        for (values, &channel) in values.zip(&channels[..count]) {
            for (token, value) in values.iter_mut().enumerate() {
                *value = x[(first + token) * k + channel as usize];
            }
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
    /// The slices behind `p` have their lengths, `rows` lie in one tile and no one else writes their
    /// outputs; `active` is a list of channels; `sums` is zeroed and has `T` elements for each row
    /// (their number rounded up to CHANNEL_TILE_STEP).
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
    let (t, steps) = (p.sizes.t, rows.len().div_ceil(CHANNEL_TILE_STEP));
    let (padded, count) = (steps * CHANNEL_TILE_STEP, active.count);
    let run = padded * size_of::<W>();
    let ahead = (AHEAD / run).clamp(1, MAX_AHEAD / RUNS - 1) * RUNS;
    let piece = if t <= GROUP { count } else { (PIECE / run).next_multiple_of(RUNS) };
    let stripe = Stripe { weights: p.run_of(rows.start), stride: p.sizes.tile_rows, steps };
    // SAFETY: the caller's contract; a tile is a multiple of steps, so that whole steps lie in it.
    unsafe {
        for i in 0..ahead.min(count) {
            let run = stripe.run(*active.channels.add(i));
            (0..steps).for_each(|step| prefetch_step::<S, W>(run, step));
        }
        let mut start = 0;
        while start < count {
            let channels = start..count.min(start + piece);
            for first in (0..t).step_by(GROUP) {
                let group = Group {
                    values: active.values.add(first * count),
                    sums: sums.add(first * padded),
                };
                let (active, channels) = (active.channels, channels.clone());
                match t - first {
                    1 => multiply::<S, W, 1>(&stripe, &group, active, channels, ahead),
                    2 => multiply::<S, W, 2>(&stripe, &group, active, channels, ahead),
                    3 => multiply::<S, W, 3>(&stripe, &group, active, channels, ahead),
                    _ => multiply::<S, W, GROUP>(&stripe, &group, active, channels, ahead),
                }
            }
            start = channels.end;
        }
        for token in 0..t {
            let (first, tokens) = (token / GROUP * GROUP, GROUP.min(t - token / GROUP * GROUP));
            let sums = sums.add(first * padded + (token - first) * LANES);
            for row in rows.clone().step_by(LANES) {
                p.finish(token, row, S::load(sums.add((row - rows.start) * tokens)));
            }
        }
    }
}

/// Adds the products of the `active` channels with indices in `channels` to the sums of `T` tokens.
#[inline(always)]
unsafe fn multiply<S: Simd, W: Element, const T: usize>(
    stripe: &Stripe<W>,
    group: &Group,
    active: *const u32,
    channels: Range<usize>,
    ahead: usize,
) {
    let mut i = channels.start;
    // SAFETY: the caller's contract.
    unsafe {
        while i + RUNS <= channels.end {
            runs::<S, W, T, RUNS>(stripe, group, active.add(i), i, ahead);
            i += RUNS;
        }
        while i < channels.end {
            runs::<S, W, T, 1>(stripe, group, active.add(i), i, ahead);
            i += 1;
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
}

/// Up to [`GROUP`] tokens, `T`.
struct Group {
    /// `[active channel, T]`.
    values: *const f32,
    /// `[vector of rows, T, LANES]`.
    sums: *mut f32,
}

impl<W> Stripe<W> {
    #[inline(always)]
    fn run(&self, channel: u32) -> *const W {
        self.weights.wrapping_add(channel as usize * self.stride)
    }
}

/// [`multiply`] with the first `C` of `channels`, whose values are those from `index` on.
#[inline(always)]
unsafe fn runs<S: Simd, W: Element, const T: usize, const C: usize>(
    stripe: &Stripe<W>,
    group: &Group,
    channels: *const u32,
    index: usize,
    ahead: usize,
) {
    // SAFETY: the channels exist, and as many `ahead` of them are in the list.
    unsafe {
        let (mut run, mut next) = ([stripe.weights; C], [stripe.weights; C]);
        let mut x = [[S::zero(); C]; T];
        for c in 0..C {
            run[c] = stripe.run(*channels.add(c));
            next[c] = stripe.run(*channels.add(ahead + c));
            for t in 0..T {
                x[t][c] = S::splat(*group.values.add((index + c) * T + t));
            }
        }
        for step in 0..stripe.steps {
            for c in 0..C {
                prefetch_step::<S, W>(next[c], step);
            }
            for row in (step * CHANNEL_TILE_STEP..(step + 1) * CHANNEL_TILE_STEP).step_by(LANES) {
                let at = group.sums.add(row * T);
                let mut sums = [S::zero(); T];
                for t in 0..T {
                    sums[t] = S::load(at.add(t * LANES));
                }
                for c in 0..C {
                    let w: S = W::load(run[c].add(row));
                    for t in 0..T {
                        sums[t] = x[t][c].fma(w, sums[t]);
                    }
                }
                for t in 0..T {
                    sums[t].store(at.add(t * LANES));
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
