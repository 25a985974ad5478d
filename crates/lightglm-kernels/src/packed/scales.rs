//! Where scales and minimums lie: panel by panel, or in the tiles of [`CodeOrder::Channels`].
//!
//! ```text
//! scales [tile, group, row of the tile]   a tile is a panel of 32 rows in CodeOrder::Panels
//! ```
//! A kernel that takes group after group of a tile reads one stream, where panels would be as many
//! streams as it has panels.

use super::channels::ChannelLayout;
use super::layout::each_chunk;
use super::{CodeOrder, PANEL_ROWS, PackedFormat};

/// The order of a matrix's scales, and of its minimums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaleLayout {
    /// Panels of the matrix.
    panels: usize,
    /// Scales of a row: one a group, or a unit.
    groups: usize,
    /// Panels of every tile but the last.
    tile_panels: usize,
}

/// Where the scales of a panel's first row lie, and how far it is to others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalePlace {
    /// The first group's.
    pub(crate) start: usize,
    /// To the next group.
    pub(crate) group: usize,
    /// To the next panel of the same tile.
    pub(crate) panel: usize,
}

impl ScaleLayout {
    /// For a matrix of `shape` (`[N, K]`) in `format`.
    pub(crate) fn new(shape: [usize; 2], format: &PackedFormat) -> Self {
        let [n, k] = shape;
        let tile_panels = match format.order {
            CodeOrder::Panels => 1,
            CodeOrder::Channels => ChannelLayout::new(shape, format.bits).tile_panels(),
        };
        Self { panels: n.div_ceil(PANEL_ROWS), groups: format.scales_of_row(k), tile_panels }
    }

    /// Elements in all.
    pub(super) fn len(&self) -> usize {
        self.panels * self.groups * PANEL_ROWS
    }

    /// Where the scales of panel `panel` lie.
    #[inline(always)]
    pub(crate) fn place(&self, panel: usize) -> ScalePlace {
        let first = panel / self.tile_panels * self.tile_panels;
        let wide = self.tile_panels.min(self.panels - first);
        ScalePlace {
            start: (first * self.groups + panel - first) * PANEL_ROWS,
            group: wide * PANEL_ROWS,
            panel: if self.tile_panels == 1 { self.groups * PANEL_ROWS } else { PANEL_ROWS },
        }
    }

    /// Where the scale of a row's group lies.
    pub(crate) fn at(&self, row: usize, group: usize) -> usize {
        let place = self.place(row / PANEL_ROWS);
        place.start + group * place.group + row % PANEL_ROWS
    }

    /// `values: [N, G]` in this order; rows that fill up a panel have 0.
    pub(super) fn pack<T: Copy + Default + Send>(
        &self,
        values: &[f32],
        round: impl Fn(f32) -> T + Sync,
    ) -> Vec<T> {
        let mut packed = vec![T::default(); self.len()];
        let rows = self.tile_panels * PANEL_ROWS;
        each_chunk(&mut packed, rows * self.groups, |tile, packed| {
            let values = &values[tile * rows * self.groups..];
            let wide = packed.len() / self.groups;
            for (row, values) in values.chunks_exact(self.groups).take(wide).enumerate() {
                for (group, &value) in values.iter().enumerate() {
                    packed[group * wide + row] = round(value);
                }
            }
        });
        packed
    }

    /// The scales or minimums `[N, G]` of a packed matrix of `n` rows.
    pub(super) fn unpack<T: Copy + Default + Send + Sync>(&self, packed: &[T], n: usize) -> Vec<T> {
        let mut values = vec![T::default(); n * self.groups];
        each_chunk(&mut values, PANEL_ROWS * self.groups, |panel, values| {
            let place = self.place(panel);
            for (at, value) in values.iter_mut().enumerate() {
                let (row, group) = (at / self.groups, at % self.groups);
                *value = packed[place.start + group * place.group + row];
            }
        });
        values
    }
}
