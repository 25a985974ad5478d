//! Packing: panels of a matrix in the order in which the register tile reads them, in f32.
//!
//! A panel is `W` neighbouring rows of `A`, or columns of `B`; for each `k` it holds their `W`
//! elements next to each other, zeros where there are fewer.
//!
//! Packed by lanes, the terms `k = l, l + 16, ...` of each `l` make panels of their own, all with as
//! many terms as the first has: zeros where there are fewer.

use std::ops::Range;

use super::super::element::Element;
use super::super::isa::kernel;
use super::super::simd::{LANES, Simd};
use super::micro_kernel::{NARROW, WIDE};

/// Elements after the last panel of `A` that packing may overwrite.
pub(crate) const SPILL: usize = LANES;

/// Values of `k` that are taken together from a matrix in which they are rows: few enough that the
/// lines being written stay in the first-level cache.
const K_STEP: usize = 8;

/// A matrix whose elements are named by `i`, a row of `A` or a column of `B`, and `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<E> {
    pub(crate) at: *const E,
    /// Elements from one `i` to the next, or from one `k` to the next: the other distance is 1.
    pub(crate) stride: usize,
    /// Whether it is `k` whose elements are neighbours.
    pub(crate) k_contiguous: bool,
}

// SAFETY: an operand is only read, by the functions below, whose callers vouch for the memory.
unsafe impl<E: Element> Send for Operand<E> {}
// SAFETY: as above.
unsafe impl<E: Element> Sync for Operand<E> {}

kernel! {
    /// Packs the rows `rows` of `A`, of which there are `end`, for the terms `ks`.
    ///
    /// # Safety
    /// The elements lie in memory, and `to` holds the panels and [`SPILL`] elements more.
    pub(super) unsafe fn pack_rows<E: Element>(
        from: Operand<E>, rows: Range<usize>, end: usize, ks: Range<usize>, to: *mut f32,
    ) = pack_rows_on;
}

kernel! {
    /// Packs the columns `columns` of `B`, of which there are `end`, for the terms `ks`.
    ///
    /// # Safety
    /// The elements lie in memory, and `to` holds the panels.
    pub(super) unsafe fn pack_columns<E: Element>(
        from: Operand<E>, columns: Range<usize>, end: usize, ks: Range<usize>, to: *mut f32,
    ) = pack_columns_on;
}

kernel! {
    /// Packs the terms `ks` of the rows `rows` of `A` by lanes; `k` is contiguous. The panels of a lane begin
    /// `lane_stride` elements after those of the one before.
    ///
    /// # Safety
    /// The elements lie in memory, and `to` holds the panels and [`SPILL`] elements more for each lane.
    pub(crate) unsafe fn pack_row_lanes<E: Element>(
        from: Operand<E>, rows: Range<usize>, ks: Range<usize>, to: *mut f32, lane_stride: usize,
    ) = pack_row_lanes_on;
}

kernel! {
    /// Packs the terms `ks` of the columns `columns` of `B` by lanes; `k` is contiguous. The panels of a
    /// lane begin `lane_stride` elements after those of the one before.
    ///
    /// # Safety
    /// The elements lie in memory, and `to` holds the panels of each lane.
    pub(crate) unsafe fn pack_column_lanes<E: Element>(
        from: Operand<E>, columns: Range<usize>, ks: Range<usize>, to: *mut f32, lane_stride: usize,
    ) = pack_column_lanes_on;
}

#[inline(always)]
unsafe fn pack_rows_on<S: Simd, E: Element>(
    from: Operand<E>,
    rows: Range<usize>,
    end: usize,
    ks: Range<usize>,
    to: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            pack::<S, E, { WIDE.0 }>(from, rows, end, ks, to);
        } else {
            pack::<S, E, { NARROW.0 }>(from, rows, end, ks, to);
        }
    }
}

#[inline(always)]
unsafe fn pack_columns_on<S: Simd, E: Element>(
    from: Operand<E>,
    columns: Range<usize>,
    end: usize,
    ks: Range<usize>,
    to: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            pack::<S, E, { WIDE.1 * LANES }>(from, columns, end, ks, to);
        } else {
            pack::<S, E, { NARROW.1 * LANES }>(from, columns, end, ks, to);
        }
    }
}

#[inline(always)]
unsafe fn pack_row_lanes_on<S: Simd, E: Element>(
    from: Operand<E>,
    rows: Range<usize>,
    ks: Range<usize>,
    to: *mut f32,
    lane_stride: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            pack_lanes::<S, E, { WIDE.0 }>(from, rows, ks, to, lane_stride);
        } else {
            pack_lanes::<S, E, { NARROW.0 }>(from, rows, ks, to, lane_stride);
        }
    }
}

#[inline(always)]
unsafe fn pack_column_lanes_on<S: Simd, E: Element>(
    from: Operand<E>,
    columns: Range<usize>,
    ks: Range<usize>,
    to: *mut f32,
    lane_stride: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if S::WIDE {
            pack_lanes::<S, E, { WIDE.1 * LANES }>(from, columns, ks, to, lane_stride);
        } else {
            pack_lanes::<S, E, { NARROW.1 * LANES }>(from, columns, ks, to, lane_stride);
        }
    }
}

/// Panels are packed in their order, and the terms of a panel in theirs, so that what is stored past
/// an element's place (see [`transpose_16`]) is overwritten.
#[inline(always)]
unsafe fn pack_lanes<S: Simd, E: Element, const W: usize>(
    from: Operand<E>,
    is: Range<usize>,
    ks: Range<usize>,
    to: *mut f32,
    lane_stride: usize,
) {
    let terms = ks.len().div_ceil(LANES);
    for i in is.clone().step_by(W) {
        let count = W.min(is.end - i);
        for term in 0..terms {
            let k = term * LANES;
            // SAFETY: rows `i..i + count` exist, and so does the place of this term in each lane.
            unsafe {
                let at = from.at.add(i * from.stride + ks.start + k);
                // The next panel's rows, each of which would be a stream that ends soon.
                for row in W..2 * W {
                    S::prefetch(at.wrapping_add(row * from.stride).cast());
                }
                let to = to.add((i - is.start) * terms + term * W);
                transpose_16::<S, E, W>(
                    at,
                    from.stride,
                    count,
                    LANES.min(ks.len() - k),
                    to,
                    lane_stride,
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn pack<S: Simd, E: Element, const W: usize>(
    from: Operand<E>,
    is: Range<usize>,
    end: usize,
    ks: Range<usize>,
    to: *mut f32,
) {
    let len = ks.len();
    if from.k_contiguous {
        for i in is.clone().step_by(W) {
            let count = W.min(is.end - i);
            // SAFETY: rows `i..i + count` exist, and so does this panel.
            unsafe {
                let at = from.at.add(i * from.stride + ks.start);
                transpose::<S, E, W>(at, from.stride, count, len, to.add((i - is.start) * len));
            }
        }
        return;
    }
    for first in (0..len).step_by(K_STEP) {
        for i in is.clone().step_by(W) {
            let count = W.min(is.end - i);
            for k in first..len.min(first + K_STEP) {
                // SAFETY: `end - i` elements of row `ks.start + k` follow, and the panel has room
                // for `W` times `len - k`.
                unsafe {
                    let at = from.at.add((ks.start + k) * from.stride + i);
                    let to = to.add((i - is.start) * len + k * W);
                    copy::<S, E, W>(at, count, end - i, to, (len - k) * W);
                }
            }
        }
    }
}

/// Copies `count <= W` elements, and zeros up to `W`; `from` holds `readable`, and up to `writable`
/// elements of `to` may be overwritten.
#[inline(always)]
unsafe fn copy<S: Simd, E: Element, const W: usize>(
    from: *const E,
    count: usize,
    readable: usize,
    to: *mut f32,
    writable: usize,
) {
    // What follows a whole panel's elements may be read along: it is overwritten.
    let whole = if count == W { readable } else { count };
    for w in (0..W).step_by(LANES) {
        // SAFETY: whole vectors are read and written only where there is room for them.
        unsafe {
            let vector = if w + LANES <= whole {
                E::load::<S>(from.add(w))
            } else {
                E::load_part::<S>(from.wrapping_add(w), count.saturating_sub(w))
            };
            if w + LANES <= writable {
                vector.store(to.add(w));
            } else {
                vector.store_part(to.add(w), W - w);
            }
        }
    }
}

/// A panel from `count` rows of `len` terms.
#[inline(always)]
unsafe fn transpose<S: Simd, E: Element, const W: usize>(
    from: *const E,
    stride: usize,
    count: usize,
    len: usize,
    to: *mut f32,
) {
    let whole = len / LANES * LANES;
    // SAFETY: the caller's contract; the last terms take a way around, where there is room for
    // sixteen of them.
    unsafe {
        for k in (0..whole).step_by(LANES) {
            transpose_16::<S, E, W>(from.add(k), stride, count, LANES, to.add(k * W), W);
        }
        let rest = len - whole;
        if rest > 0 {
            let mut terms = [0.0f32; (WIDE.1 + 1) * LANES * LANES];
            let place = terms.as_mut_ptr();
            transpose_16::<S, E, W>(from.add(whole), stride, count, rest, place, W);
            std::ptr::copy_nonoverlapping(terms.as_ptr(), to.add(whole * W), rest * W);
        }
    }
}

/// Sixteen terms of a panel, of which `len` exist, four rows at a time; a term's place is `step`
/// elements after the one of the term before.
///
/// Where `W` is no multiple of four, the last rows' stores reach into the next term's first rows.
/// They come first, so that everything lands at last; [`SPILL`] is for the very last one.
#[inline(always)]
unsafe fn transpose_16<S: Simd, E: Element, const W: usize>(
    from: *const E,
    stride: usize,
    count: usize,
    len: usize,
    to: *mut f32,
    step: usize,
) {
    for first in (0..W).step_by(4).rev() {
        // SAFETY: the rows below `count` exist; the terms have their places, see above.
        unsafe {
            let mut rows = [S::zero(); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                if first + i < count.min(W) {
                    let at = from.add((first + i) * stride);
                    *row = if len == LANES { E::load::<S>(at) } else { E::load_part::<S>(at, len) };
                }
            }
            for (j, terms) in S::transpose_4(rows).into_iter().enumerate() {
                terms.store_4(to.add(j * step + first), 4 * step);
            }
        }
    }
}
