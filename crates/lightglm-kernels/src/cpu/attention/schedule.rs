//! Which task computes which queries and which chunks.

use super::super::isa::Isa;
use super::super::kv::AttentionSpan;
use super::super::scratch::{Shared, with_scratch};
use super::super::team;
use super::chunk::{self, QUERIES};
use super::{AttentionShape, CHUNK};

/// Queries of one kv head that go through a chunk together while it is in the cache.
const QUERIES_PER_TASK: usize = 64;

/// The keys and values of a layer, and how a chunk of them is attended to.
pub(super) trait Pool: Sync {
    /// f32 elements of scratch that [`Pool::chunk`] needs.
    fn chunk_scratch(&self, head_dim: usize) -> usize;

    /// f32 elements that [`Pool::prepare`] writes for a tile of [`QUERIES`] queries.
    fn tile_len(&self, _head_dim: usize) -> usize {
        0
    }

    /// Brings the queries of a tile, each `[d]`, into the form that chunks read.
    fn prepare(&self, _isa: Isa, _queries: &[&[f32]], _tile: &mut [f32]) {}

    /// The states of all the unit's queries over one chunk.
    fn chunk(
        &self,
        context: &Context<'_, Self>,
        unit: &Unit<'_>,
        chunk: usize,
        states: &mut [f32],
        scratch: &mut [f32],
    );
}

/// A span as some of the kv heads see it: these heads' pages are in its block table.
pub(super) struct HeadSpan<'a> {
    pub(super) span: AttentionSpan<'a>,
    pub(super) kv_heads: std::ops::Range<usize>,
    /// Whether each row sees all positions of the span, those behind it too.
    pub(super) sees_all: bool,
}

/// Some rows of one span, for one kv head.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) block_table: &'a [u32],
    /// The first row in the batch, and its position.
    pub(super) row: usize,
    position: usize,
    /// Where rows see all, behind the last position.
    end: Option<usize>,
    pub(super) rows: usize,
    pub(super) kv_head: usize,
    /// The first of its partial states in split mode.
    state: usize,
    /// The first of its tiles.
    tile: usize,
}

impl Unit<'_> {
    /// Chunks that the last row sees.
    fn chunks(&self) -> usize {
        self.end.unwrap_or(self.position + self.rows).div_ceil(CHUNK)
    }

    /// Positions of chunk `chunk` that row `row` of the unit sees.
    pub(super) fn visible(&self, chunk: usize, row: usize) -> usize {
        let end = self.end.unwrap_or(self.position + row + 1);
        end.saturating_sub(chunk * CHUNK).min(CHUNK)
    }
}

/// What all tasks share.
pub(super) struct Context<'a, P: ?Sized> {
    pub(super) isa: Isa,
    q: &'a [f32],
    pub(super) shape: AttentionShape,
    pub(super) scale: f32,
    pub(super) pool: &'a P,
    /// What [`Pool::prepare`] has made of each tile.
    prepared: Shared<f32>,
    out: Shared<f32>,
}

/// See [`super::attention`], which has checked the arguments.
pub(super) fn run<P: Pool>(
    isa: Isa,
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[HeadSpan<'_>],
    pool: &P,
    out: &mut [f32],
) {
    /// From this many units on, preparing their queries is worth a fork.
    const MIN_PARALLEL: usize = 16;
    let (units, states, tiles) = units(spans, shape);
    with_scratch(tiles * pool.tile_len(shape.head_dim), |prepared| {
        let prepared = Shared(prepared.as_mut_ptr());
        let out = Shared(out.as_mut_ptr());
        let context = Context { isa, q, shape, scale, pool, prepared, out };
        if pool.tile_len(shape.head_dim) > 0 {
            if units.len() < MIN_PARALLEL {
                units.iter().for_each(|unit| context.prepare(unit));
            } else {
                team::parallel_for(units.len(), |task| context.prepare(&units[task]));
            }
        }
        let most = units.iter().map(Unit::chunks).max().unwrap_or(0);
        if most <= 1 || units.len() >= 4 * team::num_threads() {
            // Long units come last in a prompt and first here, which evens out the threads' ends.
            team::parallel_for(units.len(), |task| context.whole(&units[units.len() - 1 - task]));
        } else {
            with_scratch(states * chunk::state_len(shape.head_dim), |states| {
                context.split(&units, states);
            });
        }
    });
}

/// All units, how many partial states they have in split mode, and how many tiles.
fn units<'a>(spans: &[HeadSpan<'a>], shape: AttentionShape) -> (Vec<Unit<'a>>, usize, usize) {
    let group = shape.heads / shape.kv_heads;
    let rows = (QUERIES_PER_TASK / group).max(1);
    let mut units = Vec::new();
    let (mut state, mut tile) = (0, 0);
    for HeadSpan { span, kv_heads, sees_all } in spans {
        for i in (0..span.rows).step_by(rows) {
            for kv_head in kv_heads.clone() {
                let unit = Unit {
                    block_table: span.block_table,
                    row: span.first_row + i,
                    position: span.past + i,
                    end: sees_all.then_some(span.past + span.rows),
                    rows: rows.min(span.rows - i),
                    kv_head,
                    state,
                    tile,
                };
                state += unit.chunks() * unit.rows * group;
                tile += (unit.rows * group).div_ceil(QUERIES);
                units.push(unit);
            }
        }
    }
    (units, state, tile)
}

impl<P: Pool> Context<'_, P> {
    /// Query heads of a kv head.
    pub(super) fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// f32 elements of a query's state.
    pub(super) fn state_len(&self) -> usize {
        chunk::state_len(self.shape.head_dim)
    }

    /// Query `i` of a unit, `[d]`: all heads of its first row, then of the next.
    pub(super) fn query(&self, unit: &Unit<'_>, i: usize) -> &[f32] {
        let (d, group) = (self.shape.head_dim, self.group());
        let (row, head) = (unit.row + i / group, unit.kv_head * group + i % group);
        &self.q[(row * self.shape.heads + head) * d..][..d]
    }

    /// Where what was prepared for tile `tile` of a unit lies.
    pub(super) fn prepared(&self, unit: &Unit<'_>, tile: usize) -> *mut f32 {
        let offset = (unit.tile + tile) * self.pool.tile_len(self.shape.head_dim);
        self.prepared.get().wrapping_add(offset)
    }

    /// Prepares all the unit's queries.
    fn prepare(&self, unit: &Unit<'_>) {
        let len = self.pool.tile_len(self.shape.head_dim);
        let queries = unit.rows * self.group();
        for (tile, first) in (0..queries).step_by(QUERIES).enumerate() {
            let mut tile_queries = [&self.q[..0]; QUERIES];
            let count = QUERIES.min(queries - first);
            for (i, query) in tile_queries[..count].iter_mut().enumerate() {
                *query = self.query(unit, first + i);
            }
            // SAFETY: `units` has counted the tiles: each has its own part, written by one task.
            let prepared =
                unsafe { std::slice::from_raw_parts_mut(self.prepared(unit, tile), len) };
            self.pool.prepare(self.isa, &tile_queries[..count], prepared);
        }
    }

    /// One task for all chunks of a unit.
    fn whole(&self, unit: &Unit<'_>) {
        let len = unit.rows * self.group() * self.state_len();
        with_scratch(2 * len + self.pool.chunk_scratch(self.shape.head_dim), |scratch| {
            let (states, scratch) = scratch.split_at_mut(len);
            let (later, scratch) = scratch.split_at_mut(len);
            self.pool.chunk(self, unit, 0, states, scratch);
            for chunk in 1..unit.chunks() {
                self.pool.chunk(self, unit, chunk, later, scratch);
                self.merge(unit, chunk, states, later);
            }
            self.finish(unit, states);
        });
    }

    /// One task for each chunk of each unit, then one for each unit.
    fn split(&self, units: &[Unit<'_>], states: &mut [f32]) {
        let tasks: Vec<(&Unit<'_>, usize)> =
            units.iter().flat_map(|unit| (0..unit.chunks()).map(move |c| (unit, c))).collect();
        let states = Shared(states.as_mut_ptr());
        let states_of = |unit: &Unit<'_>, chunk: usize| {
            let len = unit.rows * self.group() * self.state_len();
            let start = unit.state * self.state_len() + chunk * len;
            // SAFETY: `units` has counted the states: each chunk of each unit has its own. Chunks
            // are written by one task each; the second round uses a unit's by one task each.
            unsafe { std::slice::from_raw_parts_mut(states.get().add(start), len) }
        };
        team::parallel_for(tasks.len(), |task| {
            let (unit, chunk) = tasks[task];
            with_scratch(self.pool.chunk_scratch(self.shape.head_dim), |scratch| {
                self.pool.chunk(self, unit, chunk, states_of(unit, chunk), scratch);
            });
        });
        team::parallel_for(units.len(), |task| {
            let unit = &units[task];
            let merged = states_of(unit, 0);
            for chunk in 1..unit.chunks() {
                self.merge(unit, chunk, merged, states_of(unit, chunk));
            }
            self.finish(unit, merged);
        });
    }

    /// Takes the states of a later chunk into those of the chunks before it.
    fn merge(&self, unit: &Unit<'_>, chunk: usize, states: &mut [f32], later: &[f32]) {
        let len = self.state_len();
        let pairs = states.chunks_exact_mut(len).zip(later.chunks_exact(len));
        for (i, (state, later)) in pairs.enumerate() {
            // A row that sees nothing of the chunk must not be touched by it.
            if unit.visible(chunk, i / self.group()) > 0 {
                let d = self.shape.head_dim;
                // SAFETY: both are whole states.
                unsafe { chunk::merge(self.isa, state.as_mut_ptr(), later.as_ptr(), d) };
            }
        }
    }

    /// Writes the unit's rows of `out`.
    fn finish(&self, unit: &Unit<'_>, states: &[f32]) {
        let d = self.shape.head_dim;
        let group = self.group();
        for (i, state) in states.chunks_exact(self.state_len()).enumerate() {
            let (row, head) = (i / group, i % group);
            let start = ((unit.row + row) * self.shape.heads + unit.kv_head * group + head) * d;
            // SAFETY: the row lies inside of `out` (`check_spans`), and units are disjoint in rows
            // or in heads. The state is whole.
            unsafe {
                let out = std::slice::from_raw_parts_mut(self.out.get().add(start), d);
                chunk::finish(self.isa, state.as_ptr(), out);
            }
        }
    }
}
