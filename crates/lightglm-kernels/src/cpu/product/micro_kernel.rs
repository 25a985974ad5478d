//! The register tile: a few rows of `A` times one or two vectors of columns of `B`.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through a register array and through memory at once"
)]

use super::super::isa::{Isa, kernel};
use super::super::simd::{LANES, Simd};

/// Rows and vectors of columns of a tile: 12 accumulators of 8 lanes out of 16 registers, ...
pub(super) const NARROW: (usize, usize) = (6, 1);
/// ... or 24 of 16 lanes out of 32.
pub(super) const WIDE: (usize, usize) = (12, 2);
/// Elements of the largest tile.
const MAX_TILE: usize = WIDE.0 * WIDE.1 * LANES;

/// Rows of `A` in a panel.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    if isa.is_wide() { WIDE.0 } else { NARROW.0 }
}

/// Columns of `B` in a panel.
pub(crate) fn tile_columns(isa: Isa) -> usize {
    LANES * if isa.is_wide() { WIDE.1 } else { NARROW.1 }
}

/// A block of `C`: packed panels of `A` times packed panels of `B`.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Panels of [`tile_rows`] rows, `k` after `k`, the rows next to each other.
    pub(crate) a: *const f32,
    pub(crate) rows: usize,
    /// Panels of [`tile_columns`] columns, `k` after `k`, the columns next to each other.
    pub(crate) b: *const f32,
    pub(crate) columns: usize,
    /// Terms of each sum.
    pub(crate) len: usize,
    /// `[rows, columns]`, rows `c_stride` apart.
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// Whether the sums start at what `c` holds, and not at zero.
    pub(crate) add: bool,
}

kernel! {
    /// Computes a block.
    ///
    /// # Safety
    /// The panels are complete (padded to whole tiles), `c` may be written and nobody else touches
    /// the block.
    pub(crate) unsafe fn multiply_block(block: Block) = multiply_block_on;
}

#[inline(always)]
unsafe fn multiply_block_on<S: Simd>(block: Block) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            tiles::<S, { WIDE.0 }, { WIDE.1 }>(block);
        } else {
            tiles::<S, { NARROW.0 }, { NARROW.1 }>(block);
        }
    }
}

/// A panel of `B` stays in the first-level cache while the panels of `A` come from the second. A tile
/// asks for the next one's part of `C` and for a share of the next panel of `B`.
#[inline(always)]
unsafe fn tiles<S: Simd, const R: usize, const V: usize>(block: Block) {
    let Block { rows, columns, len, c_stride, add, .. } = block;
    let width = V * LANES;
    // Lines of the next panel that each tile asks for.
    let share = (len * V).div_ceil(rows.div_ceil(R).max(1));
    for j in (0..columns).step_by(width) {
        for i in (0..rows).step_by(R) {
            // SAFETY: tile (i, j) begins inside of the block; its panels are whole.
            unsafe {
                let a = block.a.add(i * len);
                let b = block.b.add(j * len);
                let c = block.c.add(i * c_stride + j);
                let panel = block.b.wrapping_add((j + width) * len + i / R * share * LANES);
                for line in 0..share {
                    S::prefetch(panel.wrapping_add(line * LANES).cast());
                }
                let (next_i, next_j) = if i + R < rows { (i + R, j) } else { (0, j + width) };
                let next = block.c.wrapping_add(next_i * c_stride + next_j);
                for row in 0..R {
                    for v in 0..V {
                        S::prefetch(next.wrapping_add(row * c_stride + v * LANES).cast());
                    }
                }
                let (height, width) = (R.min(rows - i), width.min(columns - j));
                if height == R && width == V * LANES {
                    tile::<S, R, V>(a, b, len, c, c_stride, add);
                } else {
                    partial_tile::<S, R, V>(a, b, len, c, c_stride, add, [height, width]);
                }
            }
        }
    }
}

/// A tile of which only `height` rows and `width` columns exist.
#[inline(always)]
unsafe fn partial_tile<S: Simd, const R: usize, const V: usize>(
    a: *const f32,
    b: *const f32,
    len: usize,
    c: *mut f32,
    c_stride: usize,
    add: bool,
    [height, width]: [usize; 2],
) {
    let mut whole = [0.0f32; MAX_TILE];
    let stride = V * LANES;
    // SAFETY: `height` rows of `width` columns lie in both; `whole` has room for `R` of `stride`.
    unsafe {
        let to = whole.as_mut_ptr();
        if add {
            for i in 0..height {
                std::ptr::copy_nonoverlapping(c.add(i * c_stride), to.add(i * stride), width);
            }
        }
        tile::<S, R, V>(a, b, len, to, stride, add);
        for i in 0..height {
            std::ptr::copy_nonoverlapping(to.add(i * stride), c.add(i * c_stride), width);
        }
    }
}

/// `c = a b` or `c += a b`: every element is one chain of fused multiply-adds over `k`.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    mut a: *const f32,
    mut b: *const f32,
    len: usize,
    c: *mut f32,
    c_stride: usize,
    add: bool,
) {
    // SAFETY: `a` holds `R * len` elements, `b` `V * LANES * len`, and `c` is a whole tile.
    unsafe {
        let mut sums = [[S::zero(); V]; R];
        if add {
            for i in 0..R {
                for v in 0..V {
                    sums[i][v] = S::load(c.add(i * c_stride + v * LANES));
                }
            }
        }
        for _ in 0..len {
            let mut columns = [S::zero(); V];
            for v in 0..V {
                columns[v] = S::load(b.add(v * LANES));
            }
            for i in 0..R {
                let row = S::splat(*a.add(i));
                for v in 0..V {
                    sums[i][v] = row.fma(columns[v], sums[i][v]);
                }
            }
            a = a.add(R);
            b = b.add(V * LANES);
        }
        for i in 0..R {
            for v in 0..V {
                sums[i][v].store(c.add(i * c_stride + v * LANES));
            }
        }
    }
}
