//! `linear`: `y = x W^T + b`, from one token (GEMV) to a long prompt (GEMM).
//!
//! Shapes: `T` tokens, `K` in_features, `N` out_features.
//!
//! Few tokens: weights stream once from memory, as they are stored, while all tokens stay in the
//! cache; the sixteen partial sums of the specification lie in the lanes of a vector. Many tokens:
//! weights are packed, so that the vector holds outputs, and the sums are computed one after the
//! other. They are the same sums, so both give the same bits.

mod channels;
mod lanes;
mod tile;

use std::ops::Range;

use super::element::Element;
use super::isa::{Isa, kernel};
use super::scratch::{Shared, with_scratch};
use super::simd::{LANES, Simd};
use super::team;
use super::weights::Weights;
pub(crate) use channels::to_channel_tiles;
pub use channels::{CHANNEL_TILE_STEP, channel_tile_rows, linear_channels};

/// From this many tokens on, packing weights costs less than it saves, ...
const MANY_TOKENS: usize = 48;
/// ... where each of the sixteen sums has enough terms that adding them up is little.
const MANY_COLUMNS: usize = 64;

/// A chunk of weights that is worth handing to another thread, in bytes times tokens.
const MIN_CHUNK: usize = 32 * 1024;

/// `y = x W^T + bias` for `x: [T, K]`, `w: [N, K]`, `bias: [N]`, `y: [T, N]`; `shape` is `[N, K]`.
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn linear(x: &[f32], w: Weights<'_>, shape: [usize; 2], bias: Option<&[f32]>, y: &mut [f32]) {
    let [n, k] = shape;
    assert_eq!(w.len(), n * k, "weights have {} elements, not N * K = {n} * {k}", w.len());
    let t = tokens(x, shape, bias, y);
    if t == 0 {
        return;
    }
    match w {
        Weights::F32(w) => linear_of(x, w, [t, n, k], bias, y),
        Weights::F16(w) => linear_of(x, w, [t, n, k], bias, y),
        Weights::Bf16(w) => linear_of(x, w, [t, n, k], bias, y),
    }
}

/// `T` of `x: [T, K]`, `bias: [N]` and `y: [T, N]`; 0 where `N` is 0.
///
/// # Panics
/// Where their lengths contradict each other or `shape` (`[N, K]`).
fn tokens(x: &[f32], shape: [usize; 2], bias: Option<&[f32]>, y: &[f32]) -> usize {
    let [n, k] = shape;
    if let Some(bias) = bias {
        assert_eq!(bias.len(), n, "bias has {} elements, not N = {n}", bias.len());
    }
    if n == 0 {
        assert!(y.is_empty(), "y has {} elements, but N = 0", y.len());
        return 0;
    }
    let t = y.len() / n;
    assert_eq!(y.len(), t * n, "y has {} elements, not a multiple of N = {n}", y.len());
    assert_eq!(x.len(), t * k, "x has {} elements, not T * K = {t} * {k}", x.len());
    t
}

/// One call of [`linear`], checked: `x: [t, k]` (rows `x_stride` apart), `w: [n, k]`, `y: [t, n]`,
/// `bias: [n]` or null.
#[derive(Clone, Copy)]
struct Problem<W> {
    x: *const f32,
    x_stride: usize,
    w: *const W,
    bias: *const f32,
    y: Shared<f32>,
    t: usize,
    n: usize,
    k: usize,
}

// SAFETY: `x`, `w` and `bias` come from shared slices that outlive the parallel region and are only
// read; `y` is `Shared`, and each task writes the columns of its own rows of `w`.
unsafe impl<W: Element> Sync for Problem<W> {}

fn linear_of<W: Element>(
    x: &[f32],
    w: &[W],
    [t, n, k]: [usize; 3],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let mut problem = Problem {
        x: x.as_ptr(),
        x_stride: k,
        w: w.as_ptr(),
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        y: Shared(y.as_mut_ptr()),
        t,
        n,
        k,
    };
    if t >= MANY_TOKENS && k >= MANY_COLUMNS {
        lanes::run(Isa::current(), &problem);
        return;
    }
    // A vector that straddles two cache lines is loaded at half the speed, and each vector of `x`
    // is loaded for every few rows of `w`.
    let aligned = x.as_ptr().addr().is_multiple_of(64) && k.is_multiple_of(LANES);
    if t == 1 || aligned {
        run(&problem);
        return;
    }
    let stride = k.next_multiple_of(LANES);
    with_scratch(t * stride, |copy| {
        for (to, from) in copy.chunks_exact_mut(stride.max(1)).zip(x.chunks_exact(k.max(1))) {
            to[..k].copy_from_slice(from);
        }
        problem.x = copy.as_ptr();
        problem.x_stride = stride;
        run(&problem);
    });
}

/// Splits the rows of `w` over the team.
fn run<W: Element>(problem: &Problem<W>) {
    let isa = Isa::current();
    let &Problem { t, n, k, .. } = problem;
    let threads = team::num_threads();
    let row_cost = (k * t * size_of::<W>()).max(1);
    let rows = n.div_ceil(threads * 4).max(MIN_CHUNK.div_ceil(row_cost));
    let rows = rows.next_multiple_of(tile::ROWS);
    team::parallel_for(n.div_ceil(rows), |task| {
        let range = task * rows..n.min((task + 1) * rows);
        // SAFETY: `linear` has checked the lengths; the tasks' row ranges are disjoint.
        unsafe { direct_rows(isa, problem, range) }
    });
}

kernel! {
    /// Computes the outputs of some rows of `w`, reading them as they are stored.
    ///
    /// # Safety
    /// The slices behind `p` have their lengths, and no one else writes these columns of `y`.
    unsafe fn direct_rows<W: Element>(p: &Problem<W>, rows: Range<usize>) = direct_rows_on;
}

/// See [`direct_rows`].
///
/// A tile takes its rows from four quarters of the range. Each quarter is then one long stream,
/// which a hardware prefetcher follows; neighbouring rows would be streams that end after 2 KB.
#[inline(always)]
unsafe fn direct_rows_on<S: Simd, W: Element>(p: &Problem<W>, rows: Range<usize>) {
    let quarter = rows.len() / tile::ROWS;
    for n in rows.start..rows.start + quarter {
        // SAFETY: rows n, n + quarter, ... lie inside of the range.
        unsafe { tile::tokens::<S, W>(p.operands(n, quarter), p.t, tile::ROWS) };
    }
    for n in rows.start + quarter * tile::ROWS..rows.end {
        // SAFETY: row n lies inside of the range.
        unsafe { tile::tokens::<S, W>(p.operands(n, 1), p.t, 1) };
    }
}

impl<W: Element> Problem<W> {
    /// The operands of a tile of the rows `n, n + step, ...`.
    ///
    /// # Safety
    /// `n < self.n`.
    #[inline(always)]
    unsafe fn operands(&self, n: usize, step: usize) -> tile::Operands<W> {
        // SAFETY: row `n` exists.
        unsafe {
            tile::Operands {
                x: self.x,
                x_stride: self.x_stride,
                w: self.w.add(n * self.k),
                w_stride: step * self.k,
                k: self.k,
                y: self.y.get().add(n),
                y_stride: self.n,
                row_step: step,
                bias: if self.bias.is_null() { self.bias } else { self.bias.add(n) },
            }
        }
    }
}
