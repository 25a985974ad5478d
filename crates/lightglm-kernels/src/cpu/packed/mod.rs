//! `linear_packed`: `y = x W^T + b` by integer dot products of codes.
//!
//! Shapes: `T` tokens, `K` in_features, `N` out_features; layout in [`crate::packed`].
//!
//! Activations are quantized once a call, on the calling thread where they are few. Panels of 32
//! rows of weights are split over the team; each is multiplied with all tokens while it is in the
//! cache and the next one is on its way. Sums of a segment (see `segments`) are integers and exact;
//! segments are added in f32, from left to right in each part of the row, by one multiply-add each,
//! and then the sums of the parts.

mod activations;
mod active;
mod channels;
mod dot;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod rows;
mod segments;
mod tile;
#[cfg(target_arch = "x86_64")]
mod ymm;
#[cfg(target_arch = "x86_64")]
mod zmm;

use std::ops::Range;

use half::f16;

pub use activations::{QuantizedActivations, quantize_activations};
pub use isa::DotIsa;
pub use rows::gather_packed_rows;

use self::activations::Layout;
use self::dot::Dot;
use self::isa::dot_kernel;
use self::segments::Cut;
use self::tile::{Ahead, Floats, Form, Nested, Problem, STEP};
use super::scratch::{Shared, with_scratch};
use super::team;
use crate::packed::{
    ActivationBits, ChannelLayout, CodeOrder, PANEL_ROWS, PackedFormat, PackedSizes, ScaleDtype,
    ScaleLayout, WeightBits,
};

/// Scales or minimums as they are stored; [`ScaleDtype::Nested`] has its units here.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// IEEE 754 binary16.
    F16(&'a [f16]),
    /// IEEE 754 binary32.
    F32(&'a [f32]),
}

impl Scales<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `at` as f32.
    pub(super) fn get(&self, at: usize) -> f32 {
        match self {
            Self::F16(values) => values[at].to_f32(),
            Self::F32(values) => values[at],
        }
    }

    fn pointer(&self) -> Floats {
        match self {
            Self::F16(values) => Floats::F16(values.as_ptr()),
            Self::F32(values) => Floats::F32(values.as_ptr()),
        }
    }
}

/// A packed matrix as slices.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    /// `[N, K]`.
    pub shape: [usize; 2],
    /// Bits, groups, activations.
    pub format: PackedFormat,
    /// [`PackedSizes::codes`] bytes.
    pub codes: &'a [u8],
    /// [`PackedSizes::scales`] elements.
    pub scales: Scales<'a>,
    /// As `scales`, where the format has minimums.
    pub minimums: Option<Scales<'a>>,
}

impl PackedWeights<'_> {
    /// # Panics
    /// Where the lengths of the slices do not fit shape and format.
    fn check(&self) -> PackedSizes {
        let sizes = PackedSizes::new(self.shape, &self.format);
        if let Err(error) = self.format.check(self.shape[1]) {
            panic!("{error}");
        }
        assert_eq!(self.codes.len(), sizes.codes, "bytes of codes");
        let mut all = self.minimums.iter().chain([&self.scales]);
        let nested = self.format.scale_dtype == ScaleDtype::Nested;
        let halves = !nested || all.all(|units| matches!(units, Scales::F16(_)));
        assert!(halves, "units of nested scales are f16");
        assert_eq!(self.scales.len(), sizes.scales, "scales");
        assert_eq!(self.minimums.is_some(), self.format.has_minimums, "whether there are minimums");
        if let Some(minimums) = &self.minimums {
            assert_eq!(minimums.len(), sizes.scales, "minimums");
        }
        sizes
    }
}

/// A task reads so many bytes of weights at least.
const MIN_TASK: usize = 48 * 1024;
/// How many bytes ahead of the arithmetic memory is asked for, where it streams to one or two lanes
/// of activations. The processor looks ahead itself, ...
const AHEAD: usize = 2048;
/// ... but with more lanes there is too much arithmetic in between.
const FAR_AHEAD: usize = 8192;
/// Up to so many tiles of activations, weights stream from memory as fast as it allows.
const STREAMING_TILES: usize = 2;
/// Activations of so many bytes stay in the cache while panels stream over them.
const CACHED: usize = 512 * 1024;
/// Otherwise so many bytes of panels stay there.
const BLOCK: usize = 256 * 1024;

/// `y = x W^T + bias` for `x: [T, K]`, `w: [N, K]`, `bias: [N]`, `y: [T, N]`, by the formulas at
/// [`crate::LmBackend::project_packed`].
///
/// Where a group of activations holds NaN or an infinity, the token's outputs are NaN.
///
/// # Panics
/// Where the lengths of the slices contradict each other.
pub fn linear_packed(x: &[f32], w: &PackedWeights<'_>, bias: Option<&[f32]>, y: &mut [f32]) {
    let ([n, k], sizes) = (w.shape, w.check());
    if let Some(bias) = bias {
        assert_eq!(bias.len(), n, "bias has {} elements, not N = {n}", bias.len());
    }
    let t = y.len().checked_div(n).unwrap_or(0);
    assert_eq!(y.len(), t * n, "y has {} elements, not a multiple of N = {n}", y.len());
    if t == 0 {
        return;
    }
    assert_eq!(x.len(), t * k, "x has {} elements, not T * K = {t} * {k}", x.len());
    let whole = k.max(1);
    let activation = w.format.activation;
    let cut = Cut {
        k,
        weight: w.format.group_size.min(whole),
        activation: activation.group_size.unwrap_or(whole).min(whole),
    };
    let form = match (cut.count(), cut.activation >= k) {
        (1, _) if w.minimums.is_none() => Form::One,
        (_, true) => Form::PerToken,
        (_, false) if cut.weight > cut.activation => Form::Nested,
        (_, false) => Form::Grouped,
    };
    let nibbles = w.format.bits == WeightBits::Four;
    let offset = if w.minimums.is_some() { 0 } else { i32::from(w.format.bits.offset()) };
    let largest = offset.max(i32::from(w.format.bits.largest()) - offset);
    let whole = activation.bits == ActivationBits::Sixteen && cut.sums_fit(largest);
    let isa = DotIsa::current().form(nibbles, whole);
    let bias_of_codes = if nibbles { 0 } else { isa.byte_bias() };
    let quads = sizes.steps * if nibbles { 2 } else { 1 };
    let factor = bias_of_codes - offset;
    let layout = Layout::new([t, quads], cut, activation.bits, whole, isa, factor);
    with_scratch(layout.len(), |memory| {
        activations::quantize(isa, x, &layout, memory);
        let problem = Problem {
            codes: w.codes.as_ptr(),
            nibbles,
            scales: w.scales.pointer(),
            minimums: w.minimums.as_ref().map(Scales::pointer),
            bias: bias.map(<[f32]>::as_ptr),
            y: Shared(y.as_mut_ptr()),
            n,
            steps: sizes.steps,
            panel_bytes: sizes.panel_bytes,
            nested: Nested::new(&w.format, &sizes),
            panels: sizes.panels,
            scale_layout: ScaleLayout::new(w.shape, &w.format),
            form,
            part: cut.part(),
            layout,
            activations: Shared(memory.as_mut_ptr()),
        };
        match w.format.order {
            CodeOrder::Panels => run(isa, &problem, sizes.panels),
            CodeOrder::Channels => {
                let layout = ChannelLayout::new(w.shape, w.format.bits);
                run_channels(isa, &problem, &layout);
            }
        }
    });
}

/// Reads active channels alone where the tokens are few enough, or leave enough out; otherwise
/// everything, brought into panels.
fn run_channels(isa: DotIsa, problem: &Problem, layout: &ChannelLayout) {
    /// Tokens that are multiplied channel by channel whatever is active.
    const FEW: usize = 2;
    /// Of more tokens, up to so many channels in a hundred may be active for any of them.
    const MOST_ACTIVE: usize = 75;
    let tile = problem.layout.tile(problem.activations.get(), 0);
    let lanes = problem.layout.tokens * problem.layout.halves;
    let fits = problem.layout.tiles() == 1 && lanes <= channels::MAX_LANES;
    let few = || {
        problem.layout.tokens <= FEW
            || active::count_active(problem, tile) * 100 <= layout.channels * MOST_ACTIVE
    };
    if fits && few() {
        channels::run(isa, problem, layout, tile);
        return;
    }
    // Blocks of rows whose panels stay in the cache while activations stream over them.
    let most = (BLOCK / (64 * layout.channels).max(1)).max(1);
    let blocks = layout.blocks_of(0).len();
    let pieces = blocks.div_ceil(most).max(1);
    let piece = blocks.div_ceil(pieces).max(1);
    let panel_bytes = problem.panel_bytes;
    let panels_of_block = layout.block_rows / PANEL_ROWS;
    let tiles = 0..problem.layout.tiles();
    team::parallel_for(layout.tiles() * pieces, |index| {
        let (tile, within) = (index / pieces, index % pieces * piece);
        let whole = layout.blocks_of(tile);
        let first = whole.end.min(whole.start + within);
        let blocks = first..whole.end.min(first + piece);
        let panels = blocks.start * panels_of_block..blocks.end * panels_of_block;
        with_scratch((panels.len() * panel_bytes).div_ceil(4), |memory| {
            let to: *mut u8 = memory.as_mut_ptr().cast();
            // Panels of the matrix are counted from its first one, which would lie here.
            let codes = to.cast_const().wrapping_sub(panels.start * panel_bytes);
            let in_panels = Problem { codes, ..*problem };
            let panels = panels.start.min(problem.panels)..problem.panels.min(panels.end);
            // SAFETY: `linear_packed` has checked the lengths; a piece is part of a tile; its panels
            // are this task's and fit its scratch.
            unsafe {
                channels::to_panels(isa, problem, layout, tile, blocks, to);
                compute(isa, &in_panels, panels.clone(), tiles.clone(), panels.len());
            }
        });
    });
}

/// Splits panels, and tiles where panels are few, over the team.
fn run(isa: DotIsa, problem: &Problem, panels: usize) {
    let (threads, tiles) = (team::num_threads(), problem.layout.tiles());
    let panel_bytes = problem.panel_bytes.max(1);
    let block = match problem.layout.len() * 4 <= CACHED {
        true => 1,
        false => (BLOCK / panel_bytes).max(1),
    };
    // Where weights stream from memory, each thread begins with one long stretch, which memory
    // likes; short ones after it let all threads end together.
    let long = if tiles <= STREAMING_TILES { panels * 5 / 8 / threads } else { 0 };
    let longs = if long > 0 { threads } else { 0 };
    let rest = panels - longs * long;
    let fewest = MIN_TASK.div_ceil(panel_bytes * tiles);
    let short = rest.div_ceil(threads * if longs > 0 { 4 } else { 8 }).max(fewest);
    let short = if rest > threads * 4 * block { short.next_multiple_of(block) } else { short };
    let tasks = longs + rest.div_ceil(short);
    let parts = if tasks < threads * 2 { (threads * 4).div_ceil(tasks).min(tiles) } else { 1 };
    let share = tiles.div_ceil(parts);
    team::parallel_for(tasks * parts, |task| {
        let (task, part) = (task / parts, task % parts);
        let panels = match task.checked_sub(longs) {
            None => task * long..(task + 1) * long,
            Some(task) => {
                let first = longs * long + task * short;
                first..panels.min(first + short)
            }
        };
        let tiles = tiles.min(part * share)..tiles.min((part + 1) * share);
        // SAFETY: `linear_packed` has checked the lengths, and panels times tiles are this task's.
        unsafe { compute(isa, problem, panels, tiles, block) };
    });
}

dot_kernel! {
    /// The outputs of some panels for some tiles, `block` panels after each other for each tile.
    ///
    /// # Safety
    /// `p` is checked, panels and tiles exist, and no one else writes their outputs.
    unsafe fn compute(p: &Problem, panels: Range<usize>, tiles: Range<usize>, block: usize)
        = compute_on;
}

#[inline(always)]
unsafe fn compute_on<V: Dot>(p: &Problem, panels: Range<usize>, tiles: Range<usize>, block: usize) {
    let panel_bytes = p.panel_bytes;
    let count = tiles.len().max(1);
    let mut first = panels.start;
    while first < panels.end {
        let last = panels.end.min(first + block);
        for index in tiles.clone() {
            let tile = p.layout.tile(p.activations.get(), index);
            for panel in first..last {
                let here = p.codes.wrapping_add(panel * panel_bytes);
                let ahead = match count {
                    1 => {
                        let distance = if tile.lanes <= 2 { AHEAD } else { FAR_AHEAD };
                        Ahead { at: here.wrapping_add(distance), step: STEP }
                    }
                    _ => {
                        let share = (index - tiles.start) * (panel_bytes / count / 64 * 64);
                        let next = here.wrapping_add(panel_bytes * (last - first) + share);
                        Ahead { at: next, step: STEP / count }
                    }
                };
                // SAFETY: the caller's contract.
                unsafe { tile::panel::<V>(p, panel, tile, ahead) };
            }
        }
        first = last;
    }
}
