//! Many tokens: products of packed panels, one lane of the sums after the other.
//!
//! The sixteen partial sums of an output need not lie in the lanes of a vector. Lane `l` is a product
//! of its own, of the columns `k = l, l + 16, ...` of `x` and `W`; here the vector holds outputs, and
//! the lanes come one after the other. That is the product of training ([`super::super::product`]) in
//! sixteen parts, with its register tile; what is added is the order of packing, and a tree of
//! additions at the end.
//!
//! Activations are packed once, for all threads. A task packs a few panels of rows of `W`, widened,
//! which stay in its second-level cache while all tokens come past.

use std::ops::Range;

use super::super::element::Element;
use super::super::isa::{Isa, kernel};
use super::super::product::{
    Block, Operand, SPILL, multiply_block, pack_column_lanes, pack_row_lanes, tile_columns,
    tile_rows,
};
use super::super::scratch::{Shared, with_scratch};
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::Problem;

/// Tokens of a block, a multiple of the rows of any register tile. The sixteen sums of a block and a
/// panel stay in the second-level cache beside the panel.
const BLOCK: usize = 48;
/// Terms of a lane at most, so that its part of a panel of `W` stays in the first-level cache, nearly.
const MAX_TERMS: usize = 512;
/// Elements of the packed rows of `W` of one task, where that is more than one panel: half of a
/// second-level cache of 512 KiB.
const MAX_ROWS: usize = 64 * 1024;
/// Panels of a task at most: after that, it makes no difference.
const MAX_PANELS: usize = 4;
/// Elements of packed activations at most, 16 MiB, unless a block has more: half of a last-level cache.
const MAX_PACKED: usize = 4 << 20;

/// How the work is cut.
#[derive(Clone, Copy)]
struct Plan {
    isa: Isa,
    /// Rows of `W` in a panel.
    panel: usize,
    /// Pieces of `K`.
    pieces: usize,
    /// Terms of a lane in a piece.
    terms: usize,
    /// Elements from one lane of a packed block of tokens to the next.
    x_lane: usize,
    /// Elements from one lane of a packed panel of `W` to the next.
    w_lane: usize,
}

impl Plan {
    fn new(isa: Isa, k: usize) -> Self {
        let panel = tile_columns(isa);
        let terms = k.div_ceil(LANES);
        let pieces = terms.div_ceil(MAX_TERMS).max(1);
        let terms = terms.div_ceil(pieces);
        // A line more, so that the lanes' places are not multiples of a page apart.
        let w_lane = panel * terms + LANES;
        let x_lane = (BLOCK * terms + SPILL).next_multiple_of(LANES);
        Self { isa, panel, pieces, terms, x_lane, w_lane }
    }

    /// Elements of a packed block of tokens.
    fn x_block(&self) -> usize {
        self.pieces * LANES * self.x_lane
    }

    /// Elements of a packed panel of `W`.
    fn w_panel(&self) -> usize {
        self.pieces * LANES * self.w_lane
    }

    /// Elements of the sums of a block and a panel.
    fn sums(&self) -> usize {
        LANES * BLOCK * self.panel
    }

    /// The columns of a piece.
    fn piece(&self, k: usize, piece: usize) -> Range<usize> {
        let len = self.terms * LANES;
        (piece * len).min(k)..((piece + 1) * len).min(k)
    }
}

/// Computes all outputs on all threads.
pub(super) fn run<W: Element>(isa: Isa, p: &Problem<W>) {
    let plan = Plan::new(isa, p.k);
    let per_pass = (MAX_PACKED / plan.x_block()).max(1);
    let blocks = p.t.div_ceil(BLOCK);
    let passes = blocks.div_ceil(per_pass);
    let per_pass = blocks.div_ceil(passes);
    with_scratch(per_pass * plan.x_block(), |x| {
        for first in (0..blocks).step_by(per_pass) {
            let blocks = first..blocks.min(first + per_pass);
            let x = Shared(x.as_mut_ptr());
            // SAFETY: `linear` has checked the lengths; the scratch has room for the blocks.
            unsafe {
                pack_tokens(&plan, p, blocks.clone(), x);
                multiply(&plan, p, blocks, x);
            }
        }
    });
}

/// Packs blocks of tokens, piece by piece.
///
/// # Safety
/// The slices behind `p` have their lengths; `x` has room for the blocks.
unsafe fn pack_tokens<W: Element>(
    plan: &Plan,
    p: &Problem<W>,
    blocks: Range<usize>,
    x: Shared<f32>,
) {
    team::parallel_for(blocks.len() * plan.pieces, |task| {
        let (index, piece) = (task / plan.pieces, task % plan.pieces);
        let first = (blocks.start + index) * BLOCK;
        let tokens = first..p.t.min(first + BLOCK);
        let from = Operand { at: p.x, stride: p.k, k_contiguous: true };
        // SAFETY: the tokens and columns exist; tasks write places of their own.
        unsafe {
            let to = x.get().add(index * plan.x_block() + piece * LANES * plan.x_lane);
            pack_row_lanes(plan.isa, from, tokens, plan.piece(p.k, piece), to, plan.x_lane);
        }
    });
}

/// Multiplies packed blocks of tokens with all rows of `W`.
///
/// # Safety
/// The slices behind `p` have their lengths; `x` holds the blocks.
unsafe fn multiply<W: Element>(plan: &Plan, p: &Problem<W>, blocks: Range<usize>, x: Shared<f32>) {
    let threads = team::num_threads();
    let panels = p.n.div_ceil(plan.panel);
    let fitting = (MAX_ROWS / plan.w_panel()).clamp(1, MAX_PANELS);
    let per_task = fitting.min(panels.div_ceil(threads * 4));
    let row_tasks = panels.div_ceil(per_task);
    // Where the panels cannot occupy the team, blocks are shared, and panels packed more than once.
    let shares = (threads * 2).div_ceil(row_tasks).min(blocks.len());
    let share = blocks.len().div_ceil(shares);
    team::parallel_for(row_tasks * shares, |task| {
        let start = task / shares * per_task * plan.panel;
        let rows = start..p.n.min(start + per_task * plan.panel);
        let first = blocks.start + task % shares * share;
        let some = first..blocks.end.min(first + share);
        if some.is_empty() {
            return;
        }
        with_scratch(per_task * plan.w_panel() + plan.sums(), |scratch| {
            let (w, sums) = scratch.split_at_mut(per_task * plan.w_panel());
            // SAFETY: the rows and blocks exist, the scratch has room for packed panels and sums, and
            // the tasks' outputs are disjoint.
            unsafe {
                let x = x.get().add((some.start - blocks.start) * plan.x_block());
                rows_of_blocks(plan, p, rows, some, x, w.as_mut_ptr(), sums.as_mut_ptr());
            }
        });
    });
}

/// The outputs of some rows of `W` for some blocks of tokens, packed at `x`.
///
/// # Safety
/// The slices behind `p` have their lengths, nobody else writes these outputs; `w` has room for the
/// panels of the rows, `sums` for the sums of a block.
unsafe fn rows_of_blocks<W: Element>(
    plan: &Plan,
    p: &Problem<W>,
    rows: Range<usize>,
    blocks: Range<usize>,
    x: *const f32,
    w: *mut f32,
    sums: *mut f32,
) {
    let tile = tile_rows(plan.isa);
    let panels = rows.len().div_ceil(plan.panel);
    let of_panel = |panel: usize| {
        let start = rows.start + panel * plan.panel;
        start..rows.end.min(start + plan.panel)
    };
    // SAFETY: the caller's contract; each panel and each block of tokens has its place.
    unsafe {
        let from = Operand { at: p.w, stride: p.k, k_contiguous: true };
        for panel in 0..panels {
            for piece in 0..plan.pieces {
                let to = w.add(panel * plan.w_panel() + piece * LANES * plan.w_lane);
                let ks = plan.piece(p.k, piece);
                pack_column_lanes(plan.isa, from, of_panel(panel), ks, to, plan.w_lane);
            }
        }
        for block in blocks.clone() {
            let token = block * BLOCK;
            let tokens = BLOCK.min(p.t - token);
            let x = x.add((block - blocks.start) * plan.x_block());
            for panel in 0..panels {
                let w = w.add(panel * plan.w_panel());
                for lane in 0..LANES {
                    for piece in 0..plan.pieces {
                        let ks = plan.piece(p.k, piece);
                        let at = piece * LANES + lane;
                        let block = Block {
                            a: x.add(at * plan.x_lane),
                            rows: tokens.next_multiple_of(tile),
                            b: w.add(at * plan.w_lane),
                            columns: plan.panel,
                            len: ks.len().div_ceil(LANES),
                            c: sums.add(lane * BLOCK * plan.panel),
                            c_stride: plan.panel,
                            add: piece > 0,
                        };
                        multiply_block(plan.isa, block);
                    }
                }
                let columns = of_panel(panel);
                let sums = Sums { at: sums, width: plan.panel };
                add_lanes(plan.isa, p.outputs(token, columns.start), sums, tokens, columns.len());
            }
        }
    }
}

/// The sums of a block: `[LANES, BLOCK, width]`.
#[derive(Clone, Copy)]
struct Sums {
    at: *const f32,
    width: usize,
}

/// Where the outputs of a block and a panel go: rows `stride` apart, and a bias or null.
#[derive(Clone, Copy)]
struct Outputs {
    y: *mut f32,
    stride: usize,
    bias: *const f32,
}

impl<W: Element> Problem<W> {
    /// The outputs of the tokens and rows of `W` from `token` and `row` on.
    fn outputs(&self, token: usize, row: usize) -> Outputs {
        Outputs {
            y: self.y.get().wrapping_add(token * self.n + row),
            stride: self.n,
            bias: if self.bias.is_null() { self.bias } else { self.bias.wrapping_add(row) },
        }
    }
}

kernel! {
    /// Adds the sixteen sums of each output up, in the order of [`Simd::reduce_add`], and the bias.
    ///
    /// # Safety
    /// `sums` holds `tokens` rows of `columns`, and so does `to`, which nobody else writes.
    unsafe fn add_lanes(to: Outputs, sums: Sums, tokens: usize, columns: usize) = add_lanes_on;
}

#[inline(always)]
unsafe fn add_lanes_on<S: Simd>(to: Outputs, sums: Sums, tokens: usize, columns: usize) {
    for token in 0..tokens {
        for column in (0..columns).step_by(LANES) {
            let left = columns - column;
            // SAFETY: the sums of a panel are complete; outputs and biases past the last column are
            // neither read nor written.
            unsafe {
                let at = sums.at.add(token * sums.width + column);
                let step = BLOCK * sums.width;
                let even = four_lanes::<S>(at, step).add(four_lanes(at.add(2 * step), step));
                let odd = four_lanes::<S>(at.add(step), step);
                let mut sum = even.add(odd.add(four_lanes(at.add(3 * step), step)));
                let y = to.y.add(token * to.stride + column);
                let bias = to.bias.wrapping_add(column);
                if left >= LANES {
                    if !to.bias.is_null() {
                        sum = sum.add(S::load(bias));
                    }
                    sum.store(y);
                } else {
                    if !to.bias.is_null() {
                        sum = sum.add(S::load_part(bias, left));
                    }
                    sum.store_part(y, left);
                }
            }
        }
    }
}

/// The lanes 0, 8, 4 and 12, which lie `step` apart.
#[inline(always)]
unsafe fn four_lanes<S: Simd>(at: *const f32, step: usize) -> S {
    // SAFETY: the caller vouches for the lanes.
    unsafe {
        let low = S::load(at).add(S::load(at.add(8 * step)));
        low.add(S::load(at.add(4 * step)).add(S::load(at.add(12 * step))))
    }
}
