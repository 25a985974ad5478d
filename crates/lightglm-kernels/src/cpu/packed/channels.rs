//! Products with codes in the order of channels: what is not active is not read.
//!
//! A channel is active where a token's code is not zero. The active channels of a segment are
//! counted off in quads; four runs of codes, interleaved, are what four columns of a panel are, so
//! that the same dot products give the same integers. A channel left out adds nothing to them: the
//! outputs are those of the dense product, bit for bit.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use std::ops::Range;

use super::super::scratch::with_scratch;
use super::super::simd::{LANES, Simd};
use super::super::team;
use super::activations::Tile;
use super::dot::Dot;
use super::isa::{DotIsa, dot_kernel};
use super::segments::{Cut, Segment};
use super::tile::{Form, Problem, STEP, finish, fold};
use crate::packed::{ChannelLayout, PANEL_ROWS, TILE_BLOCKS};

/// Lanes of activations at most.
pub(super) const MAX_LANES: usize = 4;
/// Blocks of rows of a task are a multiple of this, what registers hold sums of.
const TASK_BLOCKS: usize = 4;
/// Tasks for each thread, if there are rows enough.
const TASKS: usize = 2;
/// Quads of channels ahead of the arithmetic that memory is asked for.
const AHEAD: usize = 8;

/// Groups ahead of the arithmetic whose scales are asked for.
const SCALES_AHEAD: usize = 4;

/// The active channels of a tile of activations.
pub(super) struct Active {
    /// Channels, segment after segment, each filled up to a multiple of four with a channel whose
    /// activations count as 0; and [`AHEAD`] quads more, for looking ahead.
    channels: *const u32,
    /// `[quad of active channels, lane, 4]`.
    codes: *const i8,
    /// Where each segment's quads end.
    ends: *const u32,
}

// SAFETY: the pointers are into the scratch of the calling thread, which is only read while the
// team works.
unsafe impl Sync for Active {}

/// How many channels are active for any of the lanes of `tile`.
pub(super) fn count_active(p: &Problem, tile: Tile) -> usize {
    let (lanes, k) = (tile.lanes, p.layout.cut.k);
    // SAFETY: the tile's codes are quads of `lanes` lanes, padded to whole quads.
    let quads = unsafe { std::slice::from_raw_parts(tile.codes, k.div_ceil(4) * lanes * 4) };
    let mut active = 0;
    for quad in quads.chunks_exact(lanes * 4) {
        for j in 0..4 {
            active += usize::from((0..lanes).any(|lane| quad[lane * 4 + j] != 0));
        }
    }
    active
}

/// Finds the active channels of `tile`, the only one of `p`, and splits the rows over the team.
pub(super) fn run(isa: DotIsa, p: &Problem, layout: &ChannelLayout, tile: Tile) {
    let (cut, lanes) = (p.layout.cut, tile.lanes);
    let segments = cut.count();
    let most = (cut.k + 3 * segments).next_multiple_of(4);
    let (room, quads) = (most + 4 * AHEAD, most * lanes / 4);
    with_scratch(room + quads + segments, |memory| {
        let (channels, rest) = memory.split_at_mut(room);
        let (codes, ends) = rest.split_at_mut(quads);
        let (channels, codes) = (channels.as_mut_ptr().cast(), codes.as_mut_ptr().cast());
        let ends = ends.as_mut_ptr().cast();
        // SAFETY: the parts have room for all channels, three more of each segment and what is looked
        // ahead at; the tile has the codes of all channels.
        unsafe { list(cut, tile, channels, codes, ends) };
        let active = Active { channels, codes, ends };
        let task =
            layout.blocks.div_ceil(team::num_threads() * TASKS).next_multiple_of(TASK_BLOCKS);
        team::parallel_for(layout.blocks.div_ceil(task), |index| {
            let (mut block, end) = (index * task, layout.blocks.min((index + 1) * task));
            while block < end {
                let last = end.min((block / TILE_BLOCKS + 1) * TILE_BLOCKS);
                compute_stripe(isa, p, &active, &Stripe::new(p, layout, block..last), lanes);
                block = last;
            }
        });
    });
}

/// Writes the channels that are active for any lane, their codes, and where segments end, as
/// [`Active`] says.
///
/// # Safety
/// The tile is whole, and the places have room for `k` channels, three more of each segment and
/// `4 * AHEAD` more channels.
unsafe fn list(cut: Cut, tile: Tile, channels: *mut u32, codes: *mut i8, ends: *mut u32) {
    let lanes = tile.lanes;
    // SAFETY: the caller's contract.
    unsafe {
        let place =
            |codes: *mut i8, channel: usize| codes.add(channel / 4 * lanes * 4 + channel % 4);
        let mut count = 0;
        for (index, segment) in cut.segments().enumerate() {
            let first = count;
            // One lane's codes lie in the order of channels; the general case takes several times
            // as long, and this is what the other threads wait for.
            for channel in segment.start..segment.end {
                let any = match lanes {
                    1 => *tile.codes.add(channel),
                    _ => {
                        let at = place(tile.codes, channel);
                        (0..lanes).fold(0, |any, lane| any | *at.add(lane * 4))
                    }
                };
                *channels.add(count) = channel as u32;
                count += usize::from(any != 0);
            }
            let end = count;
            while !count.is_multiple_of(4) {
                *channels.add(count) = *channels.add(end - 1);
                count += 1;
            }
            if lanes == 1 {
                for i in first..end {
                    *codes.add(i) = *tile.codes.add(*channels.add(i) as usize);
                }
                (end..count).for_each(|i| *codes.add(i) = 0);
            } else {
                for i in first..count {
                    let from = place(tile.codes, *channels.add(i) as usize);
                    let to = place(codes, i);
                    for lane in 0..lanes {
                        *to.add(lane * 4) = if i < end { *from.add(lane * 4) } else { 0 };
                    }
                }
            }
            *ends.add(index) = (count / 4) as u32;
        }
        let last = if count > 0 { *channels.add(count - 1) } else { 0 };
        (count..count + 4 * AHEAD).for_each(|i| *channels.add(i) = last);
    }
}

/// The outputs of a stripe of rows, which no one else writes.
fn compute_stripe(isa: DotIsa, p: &Problem, active: &Active, stripe: &Stripe, lanes: usize) {
    let parts = if p.form == Form::Nested { 2 } else { 1 };
    with_scratch(stripe.vectors * lanes * LANES * parts, |totals| {
        totals.fill(0.0);
        // SAFETY: `linear_packed` has checked the lengths; the rows of a stripe are one task's, and
        // `totals` has a vector for each sixteen of them and lane, twice with nested groups.
        unsafe { rows(isa, p, active, stripe, totals.as_mut_ptr()) };
    });
}

/// Blocks of rows of one tile.
struct Stripe {
    /// Where the codes of channel 0 lie.
    codes: *const u8,
    /// Bytes from a channel to the next.
    stride: usize,
    /// The first row.
    row: usize,
    /// Vectors of sixteen rows.
    vectors: usize,
}

impl Stripe {
    /// `blocks` belong to one tile.
    fn new(p: &Problem, layout: &ChannelLayout, blocks: Range<usize>) -> Self {
        let (tile, within) = (blocks.start / TILE_BLOCKS, blocks.start % TILE_BLOCKS);
        Self {
            codes: p.codes.wrapping_add(layout.tile_start(tile) + within * 64),
            stride: layout.tile_blocks(tile) * 64,
            row: blocks.start * layout.block_rows,
            vectors: blocks.len() * layout.block_rows / LANES,
        }
    }
}

dot_kernel! {
    /// The outputs of a stripe of rows.
    ///
    /// # Safety
    /// `p` is checked, the stripe exists, no one else writes its outputs, and `totals` is zeroed and
    /// has `[1 or 2 (Form::Nested), vectors of rows, lanes, LANES]` elements.
    unsafe fn rows(p: &Problem, active: &Active, stripe: &Stripe, totals: *mut f32) = rows_on;
}

#[inline(always)]
unsafe fn rows_on<V: Dot>(p: &Problem, active: &Active, stripe: &Stripe, totals: *mut f32) {
    let lanes = p.layout.tile(p.activations.get(), 0).lanes;
    // Calls, and no pointers to functions: these would not be compiled for the instruction set.
    macro_rules! stretch {
        ($lanes:literal, $wide:literal, $narrow:literal, $nibbles:literal) => {
            match V::WIDE {
                true => {
                    stretches::<V, $lanes, $wide, $narrow, $nibbles>(p, active, stripe, totals);
                }
                false => {
                    stretches::<V, $lanes, $narrow, $narrow, $nibbles>(p, active, stripe, totals);
                }
            }
        };
    }
    // SAFETY: the caller's contract.
    unsafe {
        match (p.nibbles, lanes) {
            (false, 1) => stretch!(1, 16, 4, false),
            (false, 2) => stretch!(2, 8, 4, false),
            (false, 3) => stretch!(3, 4, 4, false),
            (false, _) => stretch!(4, 4, 4, false),
            (true, 1) => stretch!(1, 16, 8, true),
            (true, 2) => stretch!(2, 8, 8, true),
            (true, 3) => stretch!(3, 8, 8, true),
            (true, _) => stretch!(4, 8, 8, true),
        }
    }
}

/// All segments of a stripe's rows, `WIDE` vectors of rows at a time and `H` at the end.
#[inline(always)]
unsafe fn stretches<
    V: Dot,
    const W: usize,
    const WIDE: usize,
    const H: usize,
    const NIBBLES: bool,
>(
    p: &Problem,
    active: &Active,
    stripe: &Stripe,
    totals: *mut f32,
) {
    let tile = p.layout.tile(p.activations.get(), 0);
    let vectors = stripe.vectors;
    // SAFETY: the caller's contract; vectors stay below the stripe's.
    unsafe {
        for i in 0..4 * AHEAD {
            let run = stripe.codes.add(*active.channels.add(i) as usize * stripe.stride);
            for block in 0..vectors / if NIBBLES { 8 } else { 4 } {
                V::Float::prefetch(run.wrapping_add(block * 64));
            }
        }
        let mut start = 0;
        for (number, segment) in p.layout.cut.segments().enumerate() {
            let end = *active.ends.add(number) as usize;
            let stretch = Stretch { start, end, number, segment };
            let mut vector = 0;
            while vector + WIDE <= vectors {
                sums::<V, W, WIDE, NIBBLES>(p, active, tile, stripe, &stretch, vector, totals);
                vector += WIDE;
            }
            while vector < vectors {
                sums::<V, W, H, NIBBLES>(p, active, tile, stripe, &stretch, vector, totals);
                vector += H;
            }
            start = end;
        }
        let sixteen = p.layout.halves == 2;
        for vector in 0..vectors {
            for t in 0..W {
                if sixteen && t % 2 == 1 {
                    continue;
                }
                let mut total = V::Float::load(totals.add((vector * W + t) * LANES));
                if p.form == Form::PerToken {
                    total = total.mul(V::Float::splat(*tile.scales.add(t)));
                }
                let token = tile.token + if sixteen { t / 2 } else { t };
                finish(p, token, stripe.row + vector * LANES, total);
            }
        }
    }
}

/// The quads of one segment.
struct Stretch {
    start: usize,
    end: usize,
    number: usize,
    segment: Segment,
}

/// A segment's sums of `H` vectors of rows from `vector` on, taken into the totals.
#[inline(always)]
unsafe fn sums<V: Dot, const W: usize, const H: usize, const NIBBLES: bool>(
    p: &Problem,
    active: &Active,
    tile: Tile,
    stripe: &Stripe,
    stretch: &Stretch,
    vector: usize,
    totals: *mut f32,
) {
    let vectors_of_block = if NIBBLES { 8 } else { 4 };
    let blocks = H / vectors_of_block;
    let from = stripe.codes.wrapping_add(vector / vectors_of_block * 64);
    // SAFETY: the caller's contract; active channels are channels of the matrix.
    unsafe {
        let mut acc = [[V::splat(0); H]; W];
        for t in 0..W {
            let start = V::splat(*tile.starts.add(stretch.number * W + t));
            for h in 0..H {
                acc[t][h] = start;
            }
        }
        // A panel's scales are one stream among many, too many for the processor to follow.
        let row = stripe.row + vector * LANES;
        for h in (0..H).step_by(PANEL_ROWS / LANES) {
            let panel = (row + h * LANES) / PANEL_ROWS;
            let at = (panel * p.groups + stretch.segment.weight + SCALES_AHEAD) * PANEL_ROWS;
            V::Float::prefetch(p.scales.address(at));
            if let Some(minimums) = p.minimums {
                V::Float::prefetch(minimums.address(at));
            }
        }
        for quad in stretch.start..stretch.end {
            let channels = active.channels.add(quad * 4);
            let mut runs = [from; 4];
            for j in 0..4 {
                runs[j] = from.add(*channels.add(j) as usize * stripe.stride);
                let ahead = *channels.add(4 * AHEAD + j) as usize * stripe.stride;
                for block in 0..blocks {
                    V::Float::prefetch(from.wrapping_add(ahead + block * 64));
                }
            }
            let mut quads = [V::quad(active.codes.add(quad * W * 4)); W];
            for t in 1..W {
                quads[t] = V::quad(active.codes.add((quad * W + t) * 4));
            }
            for block in 0..blocks {
                let runs = runs.map(|run| run.add(block * 64));
                if NIBBLES {
                    let codes = V::interleave_nibbles(runs);
                    for t in 0..W {
                        for i in 0..8 {
                            let h = block * 8 + i;
                            acc[t][h] = acc[t][h].dot_nibbles(codes[i], quads[t]);
                        }
                    }
                } else {
                    let codes = V::interleave_bytes(runs);
                    for t in 0..W {
                        for i in 0..4 {
                            let h = block * 4 + i;
                            acc[t][h] = acc[t][h].dot_bytes(codes[i], quads[t]);
                        }
                    }
                }
            }
        }
        let nested = p.form == Form::Nested;
        let at = |t: usize, h: usize| ((vector + h) * W + t) * LANES;
        let parts_at = totals.wrapping_add(stripe.vectors * W * LANES);
        let mut sums = [[V::Float::zero(); H]; W];
        let mut parts = [[V::Float::zero(); H]; W];
        for t in 0..W {
            for h in 0..H {
                sums[t][h] = V::Float::load(totals.add(at(t, h)));
                if nested {
                    parts[t][h] = V::Float::load(parts_at.add(at(t, h)));
                }
            }
        }
        let (number, segment) = (stretch.number, stretch.segment);
        fold::<V, W, H>(p, tile, number, segment, row, &acc, &mut sums, &mut parts);
        for t in 0..W {
            for h in 0..H {
                sums[t][h].store(totals.add(at(t, h)));
                if nested {
                    parts[t][h].store(parts_at.add(at(t, h)));
                }
            }
        }
    }
}

dot_kernel! {
    /// Brings some blocks of one tile of rows into panels.
    ///
    /// # Safety
    /// `p` is checked, the blocks exist and belong to one tile, and `to` has room for `block_rows / 32`
    /// panels of each.
    pub(super) unsafe fn to_panels(
        p: &Problem,
        layout: &ChannelLayout,
        blocks: Range<usize>,
        to: *mut u8,
    ) = to_panels_on;
}

#[inline(always)]
unsafe fn to_panels_on<V: Dot>(
    p: &Problem,
    layout: &ChannelLayout,
    blocks: Range<usize>,
    to: *mut u8,
) {
    let (k, panel_bytes) = (layout.channels, p.steps * STEP);
    let Stripe { codes, stride, .. } = Stripe::new(p, layout, blocks.clone());
    let filler = [if p.nibbles { 0x88u8 } else { 0x80 }; 64];
    let panels_of_block = layout.block_rows / PANEL_ROWS;
    // SAFETY: the caller's contract. Columns beyond the last channel have any code, as their
    // activations are 0.
    unsafe {
        let runs = |quad: usize, block: usize| {
            let mut runs = [filler.as_ptr(); 4];
            for j in 0..4 {
                let at = (quad * 4 + j) * stride + block * 64;
                V::Float::prefetch(codes.wrapping_add(at + 4 * AHEAD * stride));
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
