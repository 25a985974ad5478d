//! `linear_channels`: `y = x W^T + b` with the weights of an input channel side by side.
//!
//! Shapes: `T` tokens, `K` in_features (channels), `N` out_features, `R` rows of `W` in a tile.
//!
//! ```text
//! w [tile, channel, row of the tile]   R rows to a tile, the last one filled up with zeros
//! ```
//! Few tokens: the runs of channels that are zero for all of them are not read. Many tokens have hardly
//! a channel in common that is zero; they are multiplied with all channels, from the same bytes.
//!
//! **Bits.** Each output is one sum in the order of channels, with fused multiply-adds from zero, and
//! then the bias. A channel left out would have added a zero to it, which changes nothing where
//! weights are finite. So the result depends neither on what is left out, nor on the number of
//! tokens, nor on threads or instruction sets. It is not the sum of [`super::linear`], which keeps
//! sixteen partial sums.

mod active;
mod dense;
mod layout;

use std::ops::Range;

use super::super::element::Element;
use super::super::isa::Isa;
use super::super::scratch::Shared;
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::super::weights::Weights;
pub(crate) use layout::to_channel_tiles;
pub use layout::{CHANNEL_TILE_STEP, channel_tile_rows};

/// From this many tokens on, all channels are multiplied, a block of weights at a time.
const BLOCK_TOKENS: usize = 32;
/// Tasks for each thread at most, where the tiles do not come out even.
const TASKS: usize = 4;

/// `y = x W^T + bias` for `x: [T, K]`, `bias: [N]`, `y: [T, N]` and `w: [tiles, K, R]`, which is
/// `W: [N, K]` in tiles of `R = tile_rows` rows, channel by channel; `shape` is `[N, K]`.
///
/// For fewer than 32 tokens, channels of which every `x` is zero are not read. Weights must be
/// finite: an infinite one times a zero is left out or NaN.
///
/// # Panics
/// Where the lengths of the slices contradict each other, or `tile_rows` is not a multiple of
/// [`CHANNEL_TILE_STEP`] above 0.
pub fn linear_channels(
    x: &[f32],
    w: Weights<'_>,
    shape: [usize; 2],
    tile_rows: usize,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let [n, k] = shape;
    let whole = tile_rows > 0 && tile_rows.is_multiple_of(CHANNEL_TILE_STEP);
    assert!(whole, "a tile has {tile_rows} rows, not a multiple of {CHANNEL_TILE_STEP}");
    let expected = n.div_ceil(tile_rows) * k * tile_rows;
    assert_eq!(w.len(), expected, "weights have {} elements, not {expected}", w.len());
    let t = super::tokens(x, shape, bias, y);
    if t == 0 {
        return;
    }
    let sizes = Sizes { t, n, k, tile_rows };
    match w {
        Weights::F32(w) => run(x, w, sizes, bias, y),
        Weights::F16(w) => run(x, w, sizes, bias, y),
        Weights::Bf16(w) => run(x, w, sizes, bias, y),
    }
}

/// How large everything is.
#[derive(Clone, Copy)]
struct Sizes {
    t: usize,
    n: usize,
    k: usize,
    tile_rows: usize,
}

/// One call of [`linear_channels`], checked: `x: [t, k]`, `w: [tiles, k, tile_rows]`, `y: [t, n]`,
/// `bias: [n]` or null.
struct Problem<W> {
    x: *const f32,
    w: *const W,
    bias: *const f32,
    y: Shared<f32>,
    sizes: Sizes,
}

// SAFETY: `x`, `w` and `bias` come from shared slices that outlive the parallel region and are only
// read; `y` is `Shared`, and each task writes the columns of its own rows of `W`.
unsafe impl<W: Element> Sync for Problem<W> {}

fn run<W: Element>(x: &[f32], w: &[W], sizes: Sizes, bias: Option<&[f32]>, y: &mut [f32]) {
    let problem = Problem {
        x: x.as_ptr(),
        w: w.as_ptr(),
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        y: Shared(y.as_mut_ptr()),
        sizes,
    };
    let isa = Isa::current();
    if sizes.t < BLOCK_TOKENS {
        active::run(isa, &problem, x);
    } else {
        dense::run(isa, &problem);
    }
}

/// Calls `work` for stripes of the rows of `W` on all threads. A stripe lies inside of a tile, begins
/// at a multiple of [`CHANNEL_TILE_STEP`], and has `rows` rows or, at the end of a tile, fewer.
fn each_stripe(sizes: Sizes, rows: usize, work: impl Fn(Range<usize>) + Sync) {
    let (tiles, per_tile) = (sizes.n.div_ceil(sizes.tile_rows), sizes.tile_rows.div_ceil(rows));
    team::parallel_for(tiles * per_tile, |task| {
        let (tile, stripe) = (task / per_tile, task % per_tile);
        let end = sizes.n.min((tile + 1) * sizes.tile_rows);
        let start = tile * sizes.tile_rows + stripe * rows;
        if start < end {
            work(start..end.min(start + rows));
        }
    });
}

impl Sizes {
    /// Rows of a stripe: tiles are cut into as few pieces as the threads can share evenly.
    fn stripe_rows(self) -> usize {
        let (tiles, threads) = (self.n.div_ceil(self.tile_rows), team::num_threads());
        let steps = self.tile_rows / CHANNEL_TILE_STEP;
        let even =
            |cut: &usize| (tiles * cut).is_multiple_of(threads) || tiles * cut >= threads * TASKS;
        let cut = (1..steps).find(even).unwrap_or(steps);
        steps.div_ceil(cut) * CHANNEL_TILE_STEP
    }
}

impl<W: Element> Problem<W> {
    /// The weights of channel 0 and row `row`.
    fn run_of(&self, row: usize) -> *const W {
        let Sizes { k, tile_rows, .. } = self.sizes;
        self.w.wrapping_add(row / tile_rows * k * tile_rows + row % tile_rows)
    }

    /// Writes the outputs of sixteen rows from `row` on (or of as many as there are) of one token.
    ///
    /// # Safety
    /// `token` and `row` exist, and no one else writes these outputs.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, token: usize, row: usize, sum: S) {
        let n = self.sizes.n;
        let left = n - row;
        // SAFETY: the caller's contract; `left` outputs follow.
        unsafe {
            let y = self.y.get().add(token * n + row);
            // A sum whose products were too small for f32 may be -0, of which zeros that were not
            // left out would have made 0.
            let sum = sum.add(S::zero());
            if left >= LANES {
                match self.bias.is_null() {
                    true => sum.store(y),
                    false => sum.add(S::load(self.bias.add(row))).store(y),
                }
            } else {
                match self.bias.is_null() {
                    true => sum.store_part(y, left),
                    false => sum.add(S::load_part(self.bias.add(row), left)).store_part(y, left),
                }
            }
        }
    }
}
