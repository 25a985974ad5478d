//! Register tiles: a few tokens times a few rows of weights, `K` in the lanes.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use super::super::element::Element;
use super::super::simd::{LANES, Simd};

/// Rows of weights that one tile takes.
pub(super) const ROWS: usize = 4;
/// How many weights ahead of the arithmetic memory is asked for.
const AHEAD: usize = 1024;

/// What a tile reads and writes. Strides are in elements.
#[derive(Clone, Copy)]
pub(super) struct Operands<W> {
    /// `[tokens, k]`.
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    /// `[rows, k]`.
    pub(super) w: *const W,
    pub(super) w_stride: usize,
    pub(super) k: usize,
    /// `[tokens, rows]`, a token's outputs lying `row_step` apart.
    pub(super) y: *mut f32,
    pub(super) y_stride: usize,
    pub(super) row_step: usize,
    /// `[rows]`, also `row_step` apart, or null.
    pub(super) bias: *const f32,
}

/// Tokens in the largest tile.
const fn max_tokens<S: Simd>() -> usize {
    if S::WIDE { 6 } else { 3 }
}

/// All `tokens`, and `rows <= ROWS` rows of weights.
///
/// # Safety
/// The pointers are valid for the shapes above; see [`Simd`] for the instruction set.
#[inline(always)]
pub(super) unsafe fn tokens<S: Simd, W: Element>(mut o: Operands<W>, tokens: usize, rows: usize) {
    let mut left = tokens;
    while left > 0 {
        let count = left.min(max_tokens::<S>());
        // SAFETY: `count` tokens are left, and the pointers advance by as many.
        unsafe {
            if rows == ROWS {
                full_rows::<S, W>(o, count);
            } else {
                for row in 0..rows {
                    single_row::<S, W>(o.at_row(row), count);
                }
            }
            o.x = o.x.add(count * o.x_stride);
            o.y = o.y.add(count * o.y_stride);
        }
        left -= count;
    }
}

/// `ROWS` rows and `1..=max_tokens` tokens.
#[inline(always)]
unsafe fn full_rows<S: Simd, W: Element>(o: Operands<W>, tokens: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            match tokens {
                1 => tile::<S, W, 1, ROWS>(o),
                2 => tile::<S, W, 2, ROWS>(o),
                3 => tile::<S, W, 3, ROWS>(o),
                4 => tile::<S, W, 4, ROWS>(o),
                5 => tile::<S, W, 5, ROWS>(o),
                _ => tile::<S, W, 6, ROWS>(o),
            }
        } else {
            match tokens {
                1 => tile::<S, W, 1, ROWS>(o),
                2 => {
                    tile::<S, W, 2, 2>(o);
                    tile::<S, W, 2, 2>(o.at_row(2));
                }
                _ => {
                    tile::<S, W, 3, 2>(o);
                    tile::<S, W, 3, 2>(o.at_row(2));
                }
            }
        }
    }
}

/// One row and `1..=max_tokens` tokens.
#[inline(always)]
unsafe fn single_row<S: Simd, W: Element>(o: Operands<W>, tokens: usize) {
    for token in 0..tokens {
        // SAFETY: the caller's contract.
        unsafe {
            let mut one = o;
            one.x = o.x.add(token * o.x_stride);
            one.y = o.y.add(token * o.y_stride);
            tile::<S, W, 1, 1>(one);
        }
    }
}

impl<W: Element> Operands<W> {
    /// The operands of a tile that starts `row` rows later.
    ///
    /// # Safety
    /// There are more than `row` rows.
    #[inline(always)]
    unsafe fn at_row(self, row: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            Self {
                w: self.w.add(row * self.w_stride),
                y: self.y.add(row * self.row_step),
                bias: if self.bias.is_null() {
                    self.bias
                } else {
                    self.bias.add(row * self.row_step)
                },
                ..self
            }
        }
    }
}

/// `T` tokens times `N` rows: `T * N` vectors of partial sums in registers.
#[inline(always)]
unsafe fn tile<S: Simd, W: Element, const T: usize, const N: usize>(o: Operands<W>) {
    let whole = o.k / LANES * LANES;
    let rest = o.k - whole;
    // SAFETY: `T` tokens and `N` rows of `k` elements are readable by the caller's contract.
    unsafe {
        let mut sums = [[S::zero(); N]; T];
        let mut k = 0;
        while k < whole {
            let mut w = [S::zero(); N];
            for n in 0..N {
                let at = o.w.add(n * o.w_stride + k);
                if T > 1 {
                    // With this much arithmetic in between, the out-of-order window alone does not
                    // reach far enough ahead.
                    S::prefetch(at.wrapping_add(AHEAD).cast());
                }
                w[n] = W::load(at);
            }
            for t in 0..T {
                let x = S::load(o.x.add(t * o.x_stride + k));
                for n in 0..N {
                    sums[t][n] = x.fma(w[n], sums[t][n]);
                }
            }
            k += LANES;
        }
        if rest > 0 {
            for n in 0..N {
                let w: S = W::load_part(o.w.add(n * o.w_stride + k), rest);
                for t in 0..T {
                    let x = S::load_part(o.x.add(t * o.x_stride + k), rest);
                    sums[t][n] = x.fma(w, sums[t][n]);
                }
            }
        }
        finish::<S, W, T, N>(o, sums);
    }
}

/// Adds the partial sums up, adds the bias, and writes `y`.
#[inline(always)]
unsafe fn finish<S: Simd, W: Element, const T: usize, const N: usize>(
    o: Operands<W>,
    sums: [[S; N]; T],
) {
    // SAFETY: `y` has `T` rows of `N` columns at its stride, `bias` has `N` elements.
    unsafe {
        let mut dots = [[0.0f32; 4]; T];
        for t in 0..T {
            if N == 1 {
                dots[t][0] = sums[t][0].reduce_add();
            } else {
                let four = [sums[t][0], sums[t][1 % N], sums[t][2 % N], sums[t][3 % N]];
                S::reduce_add_4(four, dots[t].as_mut_ptr());
            }
        }
        for t in 0..T {
            for n in 0..N {
                let dot = dots[t][n];
                let column = n * o.row_step;
                let y = if o.bias.is_null() { dot } else { dot + *o.bias.add(column) };
                *o.y.add(t * o.y_stride + column) = y;
            }
        }
    }
}
