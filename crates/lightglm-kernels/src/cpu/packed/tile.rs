//! Register tiles: a panel of weights, or half of one, times the lanes of a tile of activations.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use half::f16;

use super::super::scratch::Shared;
use super::super::simd::{LANES, Simd};
use super::activations::{Layout, Tile};
use super::dot::Dot;
use super::segments::Segment;
use crate::packed::{PANEL_ROWS, PackedFormat, PackedSizes, ScaleDtype, ScaleLayout, ScalePlace};

/// Bytes of a step of a panel.
pub(super) const STEP: usize = 4 * PANEL_ROWS;

/// Scales or minimums.
#[derive(Clone, Copy)]
pub(super) enum Floats {
    F16(*const f16),
    F32(*const f32),
}

impl Floats {
    /// Where element `at` lies, if it exists.
    #[inline(always)]
    pub(super) fn address(self, at: usize) -> *const u8 {
        match self {
            Self::F16(from) => from.wrapping_add(at).cast(),
            Self::F32(from) => from.wrapping_add(at).cast(),
        }
    }

    /// Loads 16 of them.
    #[inline(always)]
    unsafe fn load<S: Simd>(self, at: usize) -> S {
        // SAFETY: the caller vouches for the elements.
        unsafe {
            match self {
                Self::F16(from) => S::load_f16(from.add(at).cast()),
                Self::F32(from) => S::load(from.add(at)),
            }
        }
    }
}

/// Where the multipliers of nested scales lie: `[G, parts, 32]` in a panel's last bytes.
#[derive(Clone, Copy)]
pub(super) struct Nested {
    /// Bytes of a panel before them.
    start: usize,
    /// 1, or 2 where there are minimums.
    parts: usize,
    /// Groups of a unit, as a power of two.
    groups: u32,
}

impl Nested {
    /// Of a format that has such scales and fits its matrix.
    pub(super) fn new(format: &PackedFormat, sizes: &PackedSizes) -> Option<Self> {
        let groups = ScaleDtype::NESTED_COLUMNS / format.group_size.max(1);
        (format.scale_dtype == ScaleDtype::Nested).then(|| Self {
            start: sizes.steps * STEP,
            parts: format.parts(),
            groups: groups.trailing_zeros(),
        })
    }

    /// The unit of a group.
    #[inline(always)]
    pub(super) fn unit(self, group: usize) -> usize {
        group >> self.groups
    }

    /// Whether a group is the first one of a unit.
    #[inline(always)]
    fn begins_unit(self, group: usize) -> bool {
        self.unit(group) << self.groups == group
    }

    /// Where in its panel the multiplier of a row's scale (`part` 0) or minimum (1) lies.
    #[inline(always)]
    pub(super) fn at(self, group: usize, part: usize, row: usize) -> usize {
        self.start + (group * self.parts + part) * PANEL_ROWS + row
    }
}

/// How scales meet sums; see [`crate::LmBackend::project_packed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One segment, symmetric: `(sum * s_a) * s`.
    One,
    /// One scale a token: `(sum over segments of s * sum) * s_a`.
    PerToken,
    /// `sum over segments of (s * s_a) * sum`.
    Grouped,
    /// Several groups of activations to one of weights:
    /// `sum over groups of weights of s * (sum over segments of s_a * sum)`.
    Nested,
}

/// One call, checked.
#[derive(Clone, Copy)]
pub(super) struct Problem {
    pub(super) codes: *const u8,
    pub(super) nibbles: bool,
    pub(super) scales: Floats,
    pub(super) minimums: Option<Floats>,
    pub(super) nested: Option<Nested>,
    pub(super) bias: Option<*const f32>,
    pub(super) y: Shared<f32>,
    pub(super) n: usize,
    /// Steps of a panel.
    pub(super) steps: usize,
    /// Bytes from a panel of codes to the next.
    pub(super) panel_bytes: usize,
    /// Panels of scales.
    pub(super) panels: usize,
    /// Where they lie.
    pub(super) scale_layout: ScaleLayout,
    pub(super) form: Form,
    /// Columns of a part of a row.
    pub(super) part: usize,
    pub(super) layout: Layout,
    /// The quantized activations.
    pub(super) activations: Shared<f32>,
}

// SAFETY: all pointers but `y` come from slices that outlive the parallel region and are only read
// there; each task writes places of `y` of its own.
unsafe impl Sync for Problem {}

/// Where to ask for memory while a tile is computed, and how far to go on with each step.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) at: *const u8,
    pub(super) step: usize,
}

/// All rows of a panel for one tile of activations.
///
/// # Safety
/// `p` is checked, panel and tile exist, and no one else writes their outputs.
#[inline(always)]
pub(super) unsafe fn panel<V: Dot>(p: &Problem, panel: usize, tile: Tile, ahead: Ahead) {
    // SAFETY: the caller's contract.
    unsafe {
        match p.nibbles {
            false => lanes::<V, false>(p, panel, tile, ahead),
            true => lanes::<V, true>(p, panel, tile, ahead),
        }
    }
}

#[inline(always)]
unsafe fn lanes<V: Dot, const NIBBLES: bool>(p: &Problem, panel: usize, tile: Tile, ahead: Ahead) {
    macro_rules! halves {
        ($lanes:literal) => {{
            compute::<V, $lanes, 1, NIBBLES>(p, panel, 0, tile, ahead);
            compute::<V, $lanes, 1, NIBBLES>(p, panel, 1, tile, ahead);
        }};
    }
    macro_rules! whole {
        ($lanes:literal) => {
            compute::<V, $lanes, 2, NIBBLES>(p, panel, 0, tile, ahead)
        };
    }
    // SAFETY: the caller's contract; a tile has at most `DotIsa::max_lanes` lanes.
    unsafe {
        if V::WIDE {
            match tile.lanes {
                1 => whole!(1),
                2 => whole!(2),
                3 => whole!(3),
                4 => whole!(4),
                5 => whole!(5),
                6 => whole!(6),
                7 => whole!(7),
                8 => whole!(8),
                9 => whole!(9),
                10 => whole!(10),
                11 => whole!(11),
                _ => whole!(12),
            }
        } else {
            match tile.lanes {
                1 => whole!(1),
                2 => whole!(2),
                3 => halves!(3),
                4 => halves!(4),
                5 => halves!(5),
                _ => halves!(6),
            }
        }
    }
}

/// `W` lanes of activations times `H` halves of a panel, the first of which is `half`.
#[inline(always)]
unsafe fn compute<V: Dot, const W: usize, const H: usize, const NIBBLES: bool>(
    p: &Problem,
    panel: usize,
    half: usize,
    tile: Tile,
    mut ahead: Ahead,
) {
    let sixteen = p.layout.halves == 2;
    // SAFETY: the caller's contract.
    unsafe {
        let mut w = p.codes.add(panel * p.panel_bytes + half * (STEP / 2));
        let place = p.scale_layout.place(panel);
        let mut x: *const i8 = tile.codes;
        let mut rows = [[V::Float::zero(); H]; W];
        let mut totals = [[V::Float::zero(); H]; W];
        let mut parts = [[V::Float::zero(); H]; W];
        let mut units = GroupScales { scales: [V::Float::zero(); H], minimums: rows[0] };
        let mut end = p.part.min(p.layout.cut.k);
        for (index, segment) in p.layout.cut.segments().enumerate() {
            let columns = segment.end - segment.start;
            let mut acc = [[V::splat(0); H]; W];
            for t in 0..W {
                for h in 0..H {
                    acc[t][h] = V::splat(*tile.starts.add(index * W + t));
                }
            }
            let quads = if NIBBLES { 2 } else { 1 };
            let mut steps = columns.div_ceil(4 * quads);
            while steps > 0 {
                let now = match V::LONGEST_RUN {
                    usize::MAX => steps,
                    longest => steps.min(longest / quads),
                };
                steps -= now;
                let mut run = acc;
                for t in 0..W {
                    for h in 0..H {
                        run[t][h] = acc[t][h].begin();
                    }
                }
                for _ in 0..now {
                    V::Float::prefetch(ahead.at);
                    V::Float::prefetch(ahead.at.wrapping_add(64));
                    ahead.at = ahead.at.wrapping_add(ahead.step);
                    if NIBBLES {
                        let mut codes = [V::load_nibbles(w); H];
                        for h in 1..H {
                            codes[h] = V::load_nibbles(w.add(h * (STEP / 2)));
                        }
                        for part in 0..2 {
                            for t in 0..W {
                                let quad = V::quad(x.add((part * W + t) * V::QUAD));
                                for h in 0..H {
                                    run[t][h] = run[t][h].dot(codes[h][part], quad);
                                }
                            }
                        }
                    } else {
                        let mut codes = [V::load_bytes(w); H];
                        for h in 1..H {
                            codes[h] = V::load_bytes(w.add(h * (STEP / 2)));
                        }
                        for t in 0..W {
                            let quad = V::quad(x.add(t * V::QUAD));
                            for h in 0..H {
                                run[t][h] = run[t][h].dot(codes[h], quad);
                            }
                        }
                    }
                    x = x.add(quads * W * V::QUAD);
                    w = w.add(STEP);
                }
                for t in 0..W {
                    for h in 0..H {
                        acc[t][h] = acc[t][h].end(run[t][h]);
                    }
                }
            }
            let row = panel * PANEL_ROWS + half * LANES;
            let group = match p.nested {
                None => GroupScales::load(p, segment.weight, row, place),
                Some(nested) => {
                    if nested.begins_unit(segment.weight) {
                        units = GroupScales::load(p, nested.unit(segment.weight), row, place);
                    }
                    units.multiplied(p, nested, segment.weight, row)
                }
            };
            fold::<V, W, H>(p, tile, index, segment, &group, &acc, &mut totals, &mut parts);
            if segment.end == end {
                for t in 0..W {
                    for h in 0..H {
                        rows[t][h] = rows[t][h].add(totals[t][h]);
                        totals[t][h] = V::Float::zero();
                    }
                }
                end = p.layout.cut.k.min(end + p.part);
            }
        }
        for t in 0..W {
            if sixteen && t % 2 == 1 {
                continue;
            }
            let token = tile.token + if sixteen { t / 2 } else { t };
            let scale = V::Float::splat(*tile.scales.add(t));
            for h in 0..H {
                let mut total = rows[t][h];
                if p.form == Form::PerToken {
                    total = total.mul(scale);
                }
                let row = panel * PANEL_ROWS + (half + h) * LANES;
                finish(p, token, row, total);
            }
        }
    }
}

/// The scales and minimums of a group, of 16 rows each; minimums are 0 where there are none.
#[derive(Clone, Copy)]
pub(super) struct GroupScales<S, const H: usize> {
    scales: [S; H],
    minimums: [S; H],
}

impl<S: Simd, const H: usize> GroupScales<S, H> {
    /// Those of group `group`, or the units with that number, of the rows from `row` on, whose panel has
    /// the place `place`.
    ///
    /// # Safety
    /// `p` is checked; rows of several panels are of one tile of scales. Rows beyond the last panel count
    /// as rows with the scale 0.
    #[inline(always)]
    pub(super) unsafe fn load(p: &Problem, group: usize, row: usize, place: ScalePlace) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            let mut all = Self { scales: [S::zero(); H], minimums: [S::zero(); H] };
            for h in 0..H {
                if row + h * LANES < p.panels * PANEL_ROWS {
                    let vector = row % PANEL_ROWS / LANES + h;
                    let first = place.start + group * place.group;
                    let at = first + vector / 2 * place.panel + vector % 2 * LANES;
                    all.scales[h] = p.scales.load(at);
                    if let Some(minimums) = p.minimums {
                        all.minimums[h] = minimums.load(at);
                    }
                }
            }
            all
        }
    }

    /// Units times the multipliers of group `group`, of the rows from `row` on, all in one panel.
    #[inline(always)]
    unsafe fn multiplied(self, p: &Problem, nested: Nested, group: usize, row: usize) -> Self {
        let Self { mut scales, mut minimums } = self;
        // SAFETY: the caller's contract.
        unsafe {
            let panel = p.codes.add(row / PANEL_ROWS * p.panel_bytes);
            for h in 0..H {
                let row = row % PANEL_ROWS + h * LANES;
                let multipliers =
                    |part: usize| panel.wrapping_add(nested.at(group, part, row)).cast();
                scales[h] = scales[h].mul(S::load_i8(multipliers(0)));
                if p.minimums.is_some() {
                    minimums[h] = minimums[h].mul(S::load_i8(multipliers(1)));
                }
            }
        }
        Self { scales, minimums }
    }
}

/// Takes the sums `acc` of segment `index` into the totals of the rows that `group` has the scales of, by
/// the formulas at [`crate::LmBackend::project_packed`].
///
/// # Safety
/// `p` is checked, `tile` is one of its tiles and has `W` lanes.
#[expect(
    clippy::too_many_arguments,
    reason = "it is the tail of two loops that differ in the rest"
)]
#[inline(always)]
pub(super) unsafe fn fold<V: Dot, const W: usize, const H: usize>(
    p: &Problem,
    tile: Tile,
    index: usize,
    segment: Segment,
    group: &GroupScales<V::Float, H>,
    acc: &[[V; H]; W],
    totals: &mut [[V::Float; H]; W],
    parts: &mut [[V::Float; H]; W],
) {
    let sixteen = p.layout.halves == 2;
    let scales = &group.scales;
    // SAFETY: the caller's contract.
    unsafe {
        let mut values = [[V::Float::zero(); H]; W];
        for t in 0..W {
            for h in 0..H {
                values[t][h] = acc[t][h].to_float();
            }
        }
        if sixteen {
            for token in 0..W / 2 {
                for h in 0..H {
                    let (high, low) = (values[2 * token][h], values[2 * token + 1][h]);
                    values[2 * token][h] = high.fma(V::Float::splat(256.0), low);
                }
            }
        }
        // Where lanes are halves of codes, every second total is of no use. A branch for each
        // would cost more than the arithmetic.
        let scale_at = tile.scales.add(segment.activation * W);
        match p.form {
            Form::One => {
                for t in 0..W {
                    let scale = V::Float::splat(*scale_at.add(t));
                    for h in 0..H {
                        totals[t][h] = values[t][h].mul(scale).mul(scales[h]);
                    }
                }
            }
            Form::PerToken => {
                for t in 0..W {
                    for h in 0..H {
                        totals[t][h] = values[t][h].fma(scales[h], totals[t][h]);
                    }
                }
            }
            Form::Grouped => {
                for t in 0..W {
                    let scale = V::Float::splat(*scale_at.add(t));
                    for h in 0..H {
                        let both = scales[h].mul(scale);
                        totals[t][h] = values[t][h].fma(both, totals[t][h]);
                    }
                }
            }
            Form::Nested => {
                for t in 0..W {
                    let scale = V::Float::splat(*scale_at.add(t));
                    for h in 0..H {
                        parts[t][h] = values[t][h].fma(scale, parts[t][h]);
                    }
                }
                if p.layout.cut.ends_group(segment) {
                    for t in 0..W {
                        for h in 0..H {
                            totals[t][h] = parts[t][h].fma(scales[h], totals[t][h]);
                            parts[t][h] = V::Float::zero();
                        }
                    }
                }
            }
        }
        if p.minimums.is_some() {
            let sum_at = tile.sums.add(index * W);
            let grouped = matches!(p.form, Form::Grouped | Form::Nested);
            for h in 0..H {
                for t in 0..W {
                    let minimum = match grouped {
                        true => group.minimums[h].mul(V::Float::splat(*scale_at.add(t))),
                        false => group.minimums[h],
                    };
                    totals[t][h] = V::Float::splat(*sum_at.add(t)).fma(minimum, totals[t][h]);
                }
            }
        }
    }
}

/// Adds the bias and writes the outputs of the rows `row..row + 16`, as far as there are any.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(p: &Problem, token: usize, row: usize, mut total: S) {
    if row >= p.n {
        return;
    }
    // SAFETY: the caller's contract; `rows` rows from `row` on exist.
    unsafe {
        let y = p.y.get().add(token * p.n + row);
        let rows = p.n - row;
        if rows >= LANES {
            if let Some(bias) = p.bias {
                total = total.add(S::load(bias.add(row)));
            }
            total.store(y);
        } else {
            if let Some(bias) = p.bias {
                total = total.add(S::load_part(bias.add(row), rows));
            }
            total.store_part(y, rows);
        }
    }
}
