//! Products with codes in the order of channels: what is not active is not read.
//!
//! A channel is active where a token's code is not zero. The active channels of a segment are
//! counted off in quads; four runs of codes, interleaved, are what four columns of a panel are, so
//! that the same dot products give the same integers. A channel left out adds nothing to them: the
//! outputs are those of the dense product, bit for bit.
//!
//! Runs are read to their end, in which memory is fastest, eight side by side; the sums of a segment
//! stay in the first-level cache meanwhile.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use std::ops::Range;

use super::super::scratch::{Shared, with_scratch};
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::activations::Tile;
use super::active::{Active, list};
use super::dot::Dot;
use super::isa::{DotIsa, dot_kernel};
use super::segments::Segment;
use super::tile::{Form, GroupScales, Problem, STEP, finish, fold};
use crate::packed::{ChannelLayout, PANEL_ROWS, ScalePlace};

/// Lanes of activations at most.
pub(super) const MAX_LANES: usize = 4;
/// Rows that one task finishes at most.
const FINISHED: usize = 2048;
/// Bytes ahead of the arithmetic that memory is asked for, ...
const AHEAD: usize = 32 * 1024;
/// ... in so many quads of channels at most.
const QUADS_AHEAD: usize = 16;
/// Runs ahead of the interleaving that memory is asked for, where all channels are brought into panels.
const RUNS_AHEAD: usize = 32;

/// Finds the active channels of `tile`, the only one of `p`, and splits the rows over the team.
pub(super) fn run(isa: DotIsa, p: &Problem, layout: &ChannelLayout, tile: Tile) {
    let (cut, lanes) = (p.layout.cut, tile.lanes);
    let segments = cut.count();
    let room = (cut.k + 3 * segments).next_multiple_of(4);
    let quads = room * lanes / 4 * (isa.quad() / 4);
    with_scratch(room + quads + segments, |memory| {
        let (channels, rest) = memory.split_at_mut(room);
        let (codes, ends) = rest.split_at_mut(quads);
        let (channels, codes) = (channels.as_mut_ptr().cast(), codes.as_mut_ptr().cast::<i8>());
        let ends = ends.as_mut_ptr().cast();
        // SAFETY: the parts have room for all channels and three more of each segment; the tile has the
        // codes of all channels.
        unsafe {
            match isa.quad() {
                8 => list::<i16>(cut, tile, channels, codes.cast(), ends),
                _ => list::<i8>(cut, tile, channels, codes, ends),
            }
        }
        let active = Active { channels, codes, ends };
        let (tiles, parts) = (layout.tiles(), cut.parts());
        let vectors = layout.blocks * layout.block_rows / LANES;
        with_scratch(parts * vectors * lanes * LANES, |totals| {
            let totals = Totals { first: Shared(totals.as_mut_ptr()), vectors, lanes };
            let (shares, cuts) = share(team::num_threads(), tiles, parts);
            team::parallel_for(tiles * shares * cuts, |index| {
                let (tile, within) = (index / (shares * cuts), index % (shares * cuts));
                let blocks = piece(layout.blocks_of(tile), within % cuts, cuts);
                if !blocks.is_empty() {
                    let stripe = Stripe::new(p, layout, tile, blocks);
                    let parts = piece(0..parts, within / cuts, shares);
                    compute_stripe(isa, p, &active, &stripe, &totals, parts);
                }
            });
            let chunk = FINISHED / LANES;
            team::parallel_for(vectors.div_ceil(chunk), |index| {
                let vectors = piece(0..vectors, index, vectors.div_ceil(chunk));
                // SAFETY: the parts of all rows are there, and these outputs are this task's.
                unsafe { finish_rows(isa, p, &totals, parts, vectors) };
            });
        });
    });
}

/// In how many shares tasks take a tile's parts, and its rows where that is not enough: long runs are
/// fast, so as few as give each of `threads` some tasks, and the same number if these are few.
fn share(threads: usize, tiles: usize, parts: usize) -> (usize, usize) {
    let even = |&shares: &usize| {
        let tasks = tiles * shares;
        let fair = tasks.is_multiple_of(threads) || tasks >= 8 * threads;
        shares <= parts && fair && tasks >= 2 * threads
    };
    match [1, 2, 4].into_iter().find(even) {
        Some(shares) => (shares, 1),
        None => (parts.max(1), threads.div_ceil((tiles * parts).max(1))),
    }
}

/// Piece `index` of `count` pieces of about the same length.
fn piece(all: Range<usize>, index: usize, count: usize) -> Range<usize> {
    let at = |index: usize| all.start + all.len() * index / count;
    at(index)..at(index + 1)
}

/// The totals of some parts of a stripe's rows, which no one else writes.
fn compute_stripe(
    isa: DotIsa,
    p: &Problem,
    active: &Active,
    stripe: &Stripe,
    totals: &Totals,
    parts: Range<usize>,
) {
    let elements = stripe.vectors * totals.lanes * LANES;
    with_scratch(elements * 2, |memory| {
        let (sums, nested) = memory.split_at_mut(elements);
        nested.fill(0.0);
        for part in parts.clone() {
            let totals = totals.of(part, stripe.row / LANES);
            // SAFETY: the part has these totals, which are this task's.
            unsafe { std::slice::from_raw_parts_mut(totals, elements).fill(0.0) };
        }
        let (sums, nested) = (sums.as_mut_ptr().cast(), nested.as_mut_ptr());
        let space = Space { totals, nested, sums };
        // SAFETY: `linear_packed` has checked the lengths; `sums` and `nested` have a vector for each
        // sixteen rows of the stripe and lane.
        unsafe { compute_parts(isa, p, active, stripe, parts, &space) };
    });
}

/// The totals of all rows: `[part, vector of rows, lane, LANES]`.
struct Totals {
    first: Shared<f32>,
    vectors: usize,
    lanes: usize,
}

impl Totals {
    /// Where those of a part and a vector lie.
    fn of(&self, part: usize, vector: usize) -> *mut f32 {
        let at = (part * self.vectors + vector) * self.lanes * LANES;
        self.first.get().wrapping_add(at)
    }
}

/// Blocks of rows of one tile.
struct Stripe {
    /// Where the codes of channel 0 lie.
    codes: *const u8,
    /// Bytes from a channel to the next.
    stride: usize,
    /// Blocks.
    blocks: usize,
    /// The first row.
    row: usize,
    /// Vectors of sixteen rows.
    vectors: usize,
    /// Where the scales of the first row lie.
    place: ScalePlace,
}

impl Stripe {
    fn new(p: &Problem, layout: &ChannelLayout, tile: usize, blocks: Range<usize>) -> Self {
        let within = blocks.start - layout.blocks_of(tile).start;
        let row = blocks.start * layout.block_rows;
        Self {
            codes: p.codes.wrapping_add(layout.tile_start(tile) + within * 64),
            stride: layout.stride(tile),
            blocks: blocks.len(),
            row,
            vectors: blocks.len() * layout.block_rows / LANES,
            place: p.scale_layout.place(row / PANEL_ROWS),
        }
    }
}

/// What a task works in: see [`Memory`].
struct Space<'a> {
    totals: &'a Totals,
    nested: *mut f32,
    sums: *mut i32,
}

/// Vectors of a stripe, each `[vectors of rows, lanes, LANES]`.
#[derive(Clone, Copy)]
struct Memory {
    /// Of one part.
    totals: *mut f32,
    /// The totals of a group of weights with several groups of activations ([`Form::Nested`]).
    nested: *mut f32,
    /// Sums of the segment so far.
    sums: *mut i32,
}

impl Memory {
    /// Where the sixteen sums of a vector and a lane lie.
    #[inline(always)]
    fn sums_of<V: Dot, const W: usize>(&self, vector: usize, lane: usize) -> *mut V {
        // What a `Dot` is, and a cache line of the scratch: no larger alignment exists.
        const { assert!(size_of::<V>() == 4 * LANES && align_of::<V>() <= 4 * LANES) }
        self.sums.wrapping_add((vector * W + lane) * LANES).cast()
    }

    /// The sums of a block of `H` vectors; `start` where nothing has been added yet.
    #[inline(always)]
    unsafe fn load<V: Dot, const W: usize, const H: usize>(
        &self,
        block: usize,
        start: Option<[V; W]>,
    ) -> [[V; H]; W] {
        // SAFETY: nothing is asked for; then the caller vouches for the block.
        unsafe {
            let mut sums = [[V::splat(0); H]; W];
            for t in 0..W {
                for h in 0..H {
                    sums[t][h] = match start {
                        Some(start) => start[t],
                        None => self.sums_of::<V, W>(block * H + h, t).read(),
                    };
                }
            }
            sums
        }
    }
}

dot_kernel! {
    /// The totals of some parts of a stripe's rows.
    ///
    /// # Safety
    /// `p` is checked, the stripe and the parts exist, no one else writes their totals, and these are
    /// zeroed; `sums` and `nested` (zeroed) of the space have a vector for each of the stripe's and
    /// each lane.
    unsafe fn compute_parts(
        p: &Problem,
        active: &Active,
        stripe: &Stripe,
        parts: Range<usize>,
        space: &Space<'_>,
    ) = compute_parts_on;
}

#[inline(always)]
unsafe fn compute_parts_on<V: Dot>(
    p: &Problem,
    active: &Active,
    stripe: &Stripe,
    parts: Range<usize>,
    space: &Space<'_>,
) {
    let Space { totals, nested, sums } = *space;
    let place = |part: usize| Memory { totals: totals.of(part, stripe.row / LANES), nested, sums };
    // Calls, and no pointers to functions: these would not be compiled for the instruction set.
    // SAFETY: the caller's contract.
    unsafe {
        match (p.nibbles, totals.lanes) {
            (false, 1) => segments::<V, 1, 4, false>(p, active, stripe, parts, place),
            (false, 2) => segments::<V, 2, 4, false>(p, active, stripe, parts, place),
            (false, 3) => segments::<V, 3, 4, false>(p, active, stripe, parts, place),
            (false, _) => segments::<V, 4, 4, false>(p, active, stripe, parts, place),
            (true, 1) => segments::<V, 1, 8, true>(p, active, stripe, parts, place),
            (true, 2) => segments::<V, 2, 8, true>(p, active, stripe, parts, place),
            (true, 3) => segments::<V, 3, 8, true>(p, active, stripe, parts, place),
            (true, _) => segments::<V, 4, 8, true>(p, active, stripe, parts, place),
        }
    }
}

/// All segments of some parts of a stripe's rows; a block is `H` vectors of them.
#[inline(always)]
unsafe fn segments<V: Dot, const W: usize, const H: usize, const NIBBLES: bool>(
    p: &Problem,
    active: &Active,
    stripe: &Stripe,
    parts: Range<usize>,
    place: impl Fn(usize) -> Memory,
) {
    let (tile, cut) = (p.layout.tile(p.activations.get(), 0), p.layout.cut);
    // SAFETY: the caller's contract; vectors stay below the stripe's.
    unsafe {
        // Quads before a part's.
        let before = |part: usize| match cut.first_of(part) {
            0 => 0,
            first => *active.ends.add(first - 1) as usize,
        };
        let (mut quad, all) = (before(parts.start), before(parts.end));
        let distance = (AHEAD / (stripe.blocks * 256)).clamp(1, QUADS_AHEAD);
        let reader = Reader { active, stripe, all, distance };
        for quad in quad..all.min(quad + distance) {
            let runs = reader.runs(quad);
            for block in 0..stripe.blocks {
                for run in runs {
                    V::Float::prefetch(run.wrapping_add(block * 64));
                }
            }
        }
        for part in parts {
            let memory = place(part);
            for (number, segment) in (cut.first_of(part)..).zip(cut.segments_of(part)) {
                let end = *active.ends.add(number) as usize;
                let mut start = [V::splat(0); W];
                for t in 0..W {
                    start[t] = V::splat(*tile.starts.add(number * W + t));
                }
                let mut start = Some(start);
                let to = Target { p, tile, stripe, number, segment, memory: &memory };
                while end - quad > 2 {
                    sums::<V, W, H, 2, NIBBLES, false>(&reader, quad, start.take(), &to);
                    quad += 2;
                }
                match end - quad {
                    2 => sums::<V, W, H, 2, NIBBLES, true>(&reader, quad, start, &to),
                    1 => sums::<V, W, H, 1, NIBBLES, true>(&reader, quad, start, &to),
                    _ => {
                        for block in 0..stripe.blocks {
                            to.take(block * H, &memory.load::<V, W, H>(block, start));
                        }
                    }
                }
                quad = end;
            }
        }
    }
}

dot_kernel! {
    /// Outputs from the totals of all parts.
    ///
    /// # Safety
    /// `p` is checked, the totals are those of its `parts` parts, and no one else writes the outputs of
    /// the rows of `vectors`.
    unsafe fn finish_rows(p: &Problem, totals: &Totals, parts: usize, vectors: Range<usize>)
        = finish_rows_on;
}

#[inline(always)]
unsafe fn finish_rows_on<V: Dot>(
    p: &Problem,
    totals: &Totals,
    parts: usize,
    vectors: Range<usize>,
) {
    let tile = p.layout.tile(p.activations.get(), 0);
    let sixteen = p.layout.halves == 2;
    // SAFETY: the caller's contract.
    unsafe {
        for vector in vectors {
            for t in (0..tile.lanes).step_by(p.layout.halves) {
                let mut total = V::Float::zero();
                for part in 0..parts {
                    total = total.add(V::Float::load(totals.of(part, vector).add(t * LANES)));
                }
                if p.form == Form::PerToken {
                    total = total.mul(V::Float::splat(*tile.scales.add(t)));
                }
                let token = tile.token + if sixteen { t / 2 } else { t };
                finish(p, token, vector * LANES, total);
            }
        }
    }
}

/// The runs of a stripe's active channels.
struct Reader<'a> {
    active: &'a Active,
    stripe: &'a Stripe,
    /// Where the task's quads end.
    all: usize,
    /// Quads ahead that memory is asked for.
    distance: usize,
}

impl Reader<'_> {
    /// The four runs of a quad.
    #[inline(always)]
    unsafe fn runs(&self, quad: usize) -> [*const u8; 4] {
        let Stripe { codes, stride, .. } = *self.stripe;
        let mut runs = [codes; 4];
        for j in 0..4 {
            // SAFETY: the caller vouches for the quad.
            let channel = unsafe { *self.active.channels.add(quad * 4 + j) };
            runs[j] = codes.wrapping_add(channel as usize * stride);
        }
        runs
    }
}

/// Adds the dot products of `Q` quads of active channels to the sums of all rows, or to `start`; the
/// `LAST` ones of a segment are taken into the totals.
#[inline(always)]
unsafe fn sums<
    V: Dot,
    const W: usize,
    const H: usize,
    const Q: usize,
    const NIBBLES: bool,
    const LAST: bool,
>(
    reader: &Reader<'_>,
    quad: usize,
    start: Option<[V; W]>,
    to: &Target<'_>,
) {
    // SAFETY: the caller's contract; active channels are channels of the matrix.
    unsafe {
        let codes = reader.active.codes;
        let (mut runs, mut ahead) = ([reader.runs(quad); Q], [reader.runs(quad); Q]);
        let mut quads = [[V::quad(codes); W]; Q];
        for q in 0..Q {
            runs[q] = reader.runs(quad + q);
            ahead[q] = reader.runs((quad + q + reader.distance).min(reader.all - 1));
            for t in 0..W {
                quads[q][t] = V::quad(codes.add(((quad + q) * W + t) * V::QUAD));
            }
        }
        for block in 0..reader.stripe.blocks {
            let mut acc = to.memory.load::<V, W, H>(block, start);
            for q in 0..Q {
                for j in 0..4 {
                    V::Float::prefetch(ahead[q][j].wrapping_add(block * 64));
                }
                let mut here = [codes.cast(); 4];
                for j in 0..4 {
                    here[j] = runs[q][j].add(block * 64);
                }
                if NIBBLES {
                    let codes = V::interleave_nibbles(here);
                    for t in 0..W {
                        for h in 0..H {
                            let run = acc[t][h].begin().dot(codes[h], quads[q][t]);
                            acc[t][h] = acc[t][h].end(run);
                        }
                    }
                } else {
                    let codes = V::interleave_bytes(here);
                    for t in 0..W {
                        for h in 0..H {
                            let run = acc[t][h].begin().dot(codes[h], quads[q][t]);
                            acc[t][h] = acc[t][h].end(run);
                        }
                    }
                }
            }
            if LAST {
                to.take(block * H, &acc);
                continue;
            }
            for t in 0..W {
                for h in 0..H {
                    to.memory.sums_of::<V, W>(block * H + h, t).write(acc[t][h]);
                }
            }
        }
    }
}

/// Where the sums of a segment go.
struct Target<'a> {
    p: &'a Problem,
    tile: Tile,
    stripe: &'a Stripe,
    number: usize,
    segment: Segment,
    memory: &'a Memory,
}

impl Target<'_> {
    /// Takes the sums of the rows from `vector` on into their totals.
    #[inline(always)]
    unsafe fn take<V: Dot, const W: usize, const H: usize>(
        &self,
        vector: usize,
        acc: &[[V; H]; W],
    ) {
        let Self { p, tile, stripe, number, segment, memory } = *self;
        let nested = p.form == Form::Nested;
        // A vector at a time, for which there are registers.
        for h in 0..H {
            let at = |t: usize| ((vector + h) * W + t) * LANES;
            let row = stripe.row + (vector + h) * LANES;
            let mut place = stripe.place;
            place.start += (vector + h) / 2 * PANEL_ROWS;
            // SAFETY: the caller's contract.
            unsafe {
                // The same rows of the next group: a stream that the processor would lose sight of.
                if h % 2 == 0 {
                    let next = place.start + (segment.weight + 1) * place.group;
                    V::Float::prefetch(p.scales.address(next));
                    if let Some(minimums) = p.minimums {
                        V::Float::prefetch(minimums.address(next));
                    }
                }
                let mut sums = [[V::splat(0); 1]; W];
                let mut totals = [[V::Float::zero(); 1]; W];
                let mut parts = [[V::Float::zero(); 1]; W];
                for t in 0..W {
                    sums[t][0] = acc[t][h];
                    totals[t][0] = V::Float::load(memory.totals.add(at(t)));
                    if nested {
                        parts[t][0] = V::Float::load(memory.nested.add(at(t)));
                    }
                }
                let group = GroupScales::load(p, segment.weight, row, place);
                fold::<V, W, 1>(p, tile, number, segment, &group, &sums, &mut totals, &mut parts);
                for t in 0..W {
                    totals[t][0].store(memory.totals.add(at(t)));
                    if nested {
                        parts[t][0].store(memory.nested.add(at(t)));
                    }
                }
            }
        }
    }
}

dot_kernel! {
    /// Brings some blocks of a tile of rows into panels.
    ///
    /// # Safety
    /// `p` is checked, the blocks exist and belong to `tile`, and `to` has room for `block_rows / 32`
    /// panels of each.
    pub(super) unsafe fn to_panels(
        p: &Problem,
        layout: &ChannelLayout,
        tile: usize,
        blocks: Range<usize>,
        to: *mut u8,
    ) = to_panels_on;
}

#[inline(always)]
unsafe fn to_panels_on<V: Dot>(
    p: &Problem,
    layout: &ChannelLayout,
    tile: usize,
    blocks: Range<usize>,
    to: *mut u8,
) {
    let (k, panel_bytes) = (layout.channels, p.steps * STEP);
    let Stripe { codes, stride, .. } = Stripe::new(p, layout, tile, blocks.clone());
    let filler = [if p.nibbles { 0x88u8 } else { 0x80 }; 64];
    let panels_of_block = layout.block_rows / PANEL_ROWS;
    // SAFETY: the caller's contract. Columns beyond the last channel have any code, as their
    // activations are 0.
    unsafe {
        let runs = |quad: usize, block: usize| {
            let mut runs = [filler.as_ptr(); 4];
            for j in 0..4 {
                let at = (quad * 4 + j) * stride + block * 64;
                V::Float::prefetch(codes.wrapping_add(at + RUNS_AHEAD * stride));
                if quad * 4 + j < k {
                    runs[j] = codes.add(at);
                }
            }
            runs
        };
        for step in 0..p.steps {
            for block in 0..blocks.len() {
                let to = to.add(block * panels_of_block * panel_bytes + step * STEP);
                let place =
                    |vector: usize| to.add(vector / 2 * panel_bytes + vector % 2 * (STEP / 2));
                if p.nibbles {
                    let low = V::interleave_nibbles(runs(2 * step, block));
                    let high = V::interleave_nibbles(runs(2 * step + 1, block));
                    for vector in 0..8 {
                        V::store_nibbles(low[vector], high[vector], place(vector));
                    }
                } else {
                    let all = V::interleave_bytes(runs(step, block));
                    for vector in 0..4 {
                        V::store_bytes(all[vector], place(vector));
                    }
                }
            }
        }
    }
}
