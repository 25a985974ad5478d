//! `product`: `C = A B` in f32, the matrix product of training.
//!
//! Shapes: `A: [m, k]`, `B: [k, n]`, `C: [m, n]`; `A` and `B` as they are stored or transposed.
//!
//! A register tile wants its operands in the order it reads them, so both are packed into panels
//! first, from whatever layout and precision they have. `B` is packed once, for all threads, as many
//! terms at a time as the last-level cache holds; a block of `A` is packed by the thread that
//! multiplies it and stays in its second-level cache.
//!
//! An element of `C` is a single chain of fused multiply-adds in the order of `k`, which is why its
//! bits depend on nothing else. For products of few rows, [`super::linear()`] is faster.
//!
//! Source: Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"; Van Zee
//! and van de Geijn 2015, "BLIS".

mod matrix_ref;
mod micro_kernel;
mod pack;

use std::ops::Range;

use super::element::Element;
use super::isa::Isa;
use super::scratch::{Shared, with_scratch};
use super::team;
use super::weights::Weights;
pub use matrix_ref::MatrixRef;
pub(super) use micro_kernel::{Block, multiply_block, tile_columns, tile_rows};
pub(super) use pack::{Operand, SPILL, pack_column_lanes, pack_row_lanes};
use pack::{pack_columns, pack_rows};

/// Elements of a panel of `B` at most: it comes from the second-level cache fast enough, and the more
/// terms, the less often `C` is read and written.
const MAX_PANEL: usize = 8 * 1024;
/// Elements of a packed block of `A` at most: 256 KiB, half of a second-level cache.
const MAX_BLOCK: usize = 64 * 1024;
/// Rows of a block at least, where the team could use more blocks: every block reads its panels of
/// `B`.
const MIN_ROWS: usize = 96;
/// Columns of a block at least, likewise: every block packs its rows of `A`.
const MIN_COLUMNS: usize = 512;
/// Elements of `B` that are packed at a time: 4 MiB.
const MAX_PACKED: usize = 1 << 20;
/// Blocks for each thread, where there is enough work, so that a thread that is late does less.
const BLOCKS_PER_THREAD: usize = 6;
/// Elements of `B` that are worth handing to another thread.
const MIN_PACKING: usize = 32 * 1024;

/// `c = a b`, or `c += a b` with `accumulate`, for `a: [m, k]`, `b: [k, n]` and row-major `c: [m, n]`.
///
/// # Panics
/// Where the shapes contradict each other.
pub fn product(a: MatrixRef<'_>, b: MatrixRef<'_>, c: &mut [f32], accumulate: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "a has {k} columns, but b {} rows", b.rows);
    assert_eq!(c.len(), m * n, "c has {} elements, not m * n = {m} * {n}", c.len());
    // SAFETY: `c` has `m * n` elements and is borrowed.
    unsafe { product_into(a, b, Shared(c.as_mut_ptr()), accumulate) }
}

/// [`product`] as a new row-major matrix.
///
/// # Panics
/// Where the shapes contradict each other.
pub fn product_to_vec(a: MatrixRef<'_>, b: MatrixRef<'_>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "a has {} columns, but b {} rows", a.columns, b.rows);
    let len = a.rows * b.columns;
    let mut c = Vec::with_capacity(len);
    // SAFETY: there is room for `len` elements, and the product writes all of them without reading.
    unsafe {
        product_into(a, b, Shared(c.as_mut_ptr()), false);
        c.set_len(len);
    }
    c
}

/// # Safety
/// `c` has room for the product, and nobody else touches it. It is read only to `accumulate`.
unsafe fn product_into(a: MatrixRef<'_>, b: MatrixRef<'_>, c: Shared<f32>, accumulate: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let (a_by_k, b_by_k) = (!a.transposed, b.transposed);
    macro_rules! with_both {
        ($($A:ident $B:ident),*) => {
            match (a.data, b.data) {
                $((Weights::$A(at), Weights::$B(bt)) => {
                    let a = Operand { at: at.as_ptr(), stride: a.stride, k_contiguous: a_by_k };
                    let b = Operand { at: bt.as_ptr(), stride: b.stride, k_contiguous: b_by_k };
                    // SAFETY: the references were made for these shapes, and `c` is the caller's.
                    unsafe { product_of([m, n, k], a, b, c, n, accumulate) }
                })*
            }
        };
    }
    with_both!(
        F32 F32, F32 F16, F32 Bf16, F16 F32, F16 F16, F16 Bf16, Bf16 F32, Bf16 F16, Bf16 Bf16
    );
}

/// [`product`] of operands in memory, the rows of `c` `c_stride` apart.
///
/// # Safety
/// The operands' elements may be read and `c`'s written, which nobody else touches.
pub(super) unsafe fn product_of<A: Element, B: Element>(
    [m, n, k]: [usize; 3],
    a: Operand<A>,
    b: Operand<B>,
    c: Shared<f32>,
    c_stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 && !accumulate {
        for row in 0..m {
            // SAFETY: row `row` of `c` has `n` elements; zero is all bits zero.
            unsafe { c.get().add(row * c_stride).write_bytes(0, n) };
        }
    }
    let isa = Isa::current();
    let plan = Plan::new(isa, [m, n, k], team::num_threads());
    with_scratch(plan.packed_b(), |packed| {
        let packed = Shared(packed.as_mut_ptr());
        for first_column in (0..n).step_by(plan.columns) {
            let columns = first_column..n.min(first_column + plan.columns);
            for first_term in (0..k).step_by(plan.group) {
                let terms = first_term..k.min(first_term + plan.group);
                let slab = Slab { columns: columns.clone(), terms, packed, isa };
                let add = accumulate || first_term > 0;
                // SAFETY: the slab lies inside of `b`, whose packed panels fit the scratch.
                unsafe {
                    slab.pack(&plan, b, n);
                    slab.multiply(&plan, a, m, c, c_stride, add);
                }
            }
        }
    });
}

/// How the work is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Terms of a block.
    terms: usize,
    /// Terms of `B` packed at a time, a multiple of `terms`.
    group: usize,
    /// Columns of `B` packed at a time, whole panels.
    columns: usize,
    /// Columns of a panel of `B`.
    panel: usize,
    /// Rows of a block, whole panels.
    rows: usize,
    /// Columns of a block, whole panels.
    width: usize,
}

impl Plan {
    fn new(isa: Isa, [m, n, k]: [usize; 3], threads: usize) -> Self {
        let (tile, panel) = (tile_rows(isa), tile_columns(isa));
        let max_terms = MAX_PANEL / panel;
        let blocks_of_terms = k.div_ceil(max_terms).max(1);
        let terms = k.div_ceil(blocks_of_terms).max(1);
        let slabs = n.div_ceil(MAX_PACKED / max_terms);
        let columns = n.div_ceil(slabs).next_multiple_of(panel);
        let fitting = (MAX_PACKED / (columns * terms)).max(1);
        let groups = blocks_of_terms.div_ceil(fitting);
        let group = blocks_of_terms.div_ceil(groups) * terms;

        let wanted = if threads == 1 { 1 } else { threads * BLOCKS_PER_THREAD };
        let max_rows = (MAX_BLOCK / terms).min(m);
        let wide = wanted.div_ceil(m.div_ceil(max_rows)).min(columns / MIN_COLUMNS).max(1);
        let high = wanted.div_ceil(wide).min(m / MIN_ROWS).max(m.div_ceil(max_rows));
        let rows = m.div_ceil(high).next_multiple_of(tile);
        // The blocks may be too few even to occupy the team.
        let wide = wide.max(threads.div_ceil(high)).min(columns / panel);
        let width = columns.div_ceil(wide).next_multiple_of(panel);
        Self { terms, group, columns, panel, rows, width }
    }

    /// Elements of the packed part of `B`.
    fn packed_b(&self) -> usize {
        self.columns * self.group
    }
}

/// The part of `B` that is packed at a time: for each block of terms, its panels.
struct Slab {
    columns: Range<usize>,
    terms: Range<usize>,
    packed: Shared<f32>,
    isa: Isa,
}

impl Slab {
    /// The `index`-th block of terms, and where its panels begin.
    fn block(&self, plan: &Plan, index: usize) -> (Range<usize>, *mut f32) {
        let start = self.terms.start + index * plan.terms;
        let terms = start..self.terms.end.min(start + plan.terms);
        (terms, self.packed.get().wrapping_add(index * plan.terms * plan.columns))
    }

    /// # Safety
    /// The slab lies inside of `b`, which has `n` columns; `packed` has the length planned.
    unsafe fn pack<B: Element>(&self, plan: &Plan, b: Operand<B>, n: usize) {
        let panels = self.columns.len().div_ceil(plan.panel);
        let per_task = MIN_PACKING.div_ceil(plan.terms * plan.panel);
        let tasks = panels.div_ceil(per_task);
        let blocks = self.terms.len().div_ceil(plan.terms);
        team::parallel_for(blocks * tasks, |task| {
            let (terms, packed) = self.block(plan, task / tasks);
            let first = task % tasks * per_task * plan.panel;
            let start = self.columns.start + first;
            let columns = start..self.columns.end.min(start + per_task * plan.panel);
            // SAFETY: the caller's contract; tasks write panels of their own.
            unsafe {
                let to = packed.add(first * terms.len());
                pack_columns(self.isa, b, columns, n, terms, to);
            }
        });
    }

    /// Multiplies all of `a: [m, k]` with the slab.
    ///
    /// # Safety
    /// The slab is packed; `a` and `c` may be read and written.
    unsafe fn multiply<A: Element>(
        &self,
        plan: &Plan,
        a: Operand<A>,
        m: usize,
        c: Shared<f32>,
        c_stride: usize,
        add: bool,
    ) {
        let high = m.div_ceil(plan.rows);
        let wide = self.columns.len().div_ceil(plan.width);
        let blocks = self.terms.len().div_ceil(plan.terms);
        team::parallel_for(high * wide, |task| {
            let row = task % high * plan.rows;
            let rows = row..m.min(row + plan.rows);
            let column = task / high * plan.width;
            let columns = plan.width.min(self.columns.len() - column);
            with_scratch(plan.rows * plan.terms + SPILL, |panels| {
                for index in 0..blocks {
                    let (terms, packed) = self.block(plan, index);
                    let (len, rows) = (terms.len(), rows.clone());
                    // SAFETY: these rows and terms lie inside of `a`, the scratch holds them; the
                    // columns' panels begin `column * len` elements after the first one's, and the
                    // block of `c` is this task's alone.
                    unsafe {
                        pack_rows(self.isa, a, rows.clone(), m, terms, panels.as_mut_ptr());
                        let corner = row * c_stride + self.columns.start + column;
                        let block = Block {
                            a: panels.as_ptr(),
                            rows: rows.len(),
                            b: packed.add(column * len),
                            columns,
                            len,
                            c: c.get().add(corner),
                            c_stride,
                            add: add || index > 0,
                        };
                        multiply_block(self.isa, block);
                    }
                }
            });
        });
    }
}
