//! Which task computes which queries and which chunks.

use lightglm_core::KV_BLOCK;

use super::super::element::Element;
use super::super::isa::Isa;
use super::super::kv::AttentionSpan;
use super::super::scratch::{Shared, with_scratch};
use super::super::team;
use super::chunk::{self, QUERIES, Tile};
use super::{AttentionShape, CHUNK, CHUNK_BLOCKS};

/// Queries of one kv head that go through a chunk together while it is in the cache.
const QUERIES_PER_TASK: usize = 64;
/// From this many queries on, a chunk is widened to f32 once instead of in every tile.
const WIDEN_FROM: usize = 3 * QUERIES;

/// Some rows of one span, for one kv head.
#[derive(Clone, Copy)]
struct Unit<'a> {
    block_table: &'a [u32],
    /// The first row in the batch, and its position.
    row: usize,
    position: usize,
    rows: usize,
    kv_head: usize,
    /// The first of its partial states in split mode.
    state: usize,
}

impl Unit<'_> {
    /// Chunks that the last row sees.
    fn chunks(&self) -> usize {
        (self.position + self.rows).div_ceil(CHUNK)
    }
}

/// What all tasks share.
struct Context<'a, E> {
    isa: Isa,
    q: &'a [f32],
    shape: AttentionShape,
    scale: f32,
    keys: &'a [E],
    values: &'a [E],
    out: Shared<f32>,
}

/// See [`super::attention`], which has checked the arguments.
#[expect(clippy::too_many_arguments, reason = "the arguments of `attention`, checked")]
pub(super) fn run<E: Element>(
    isa: Isa,
    q: &[f32],
    shape: AttentionShape,
    scale: f32,
    spans: &[AttentionSpan<'_>],
    keys: &[E],
    values: &[E],
    out: &mut [f32],
) {
    let context = Context { isa, q, shape, scale, keys, values, out: Shared(out.as_mut_ptr()) };
    let (units, states) = units(spans, shape);
    let most = units.iter().map(Unit::chunks).max().unwrap_or(0);
    if most <= 1 || units.len() >= 4 * team::num_threads() {
        // Long units come last in a prompt and first here, which evens out the threads' ends.
        team::parallel_for(units.len(), |task| context.whole(&units[units.len() - 1 - task]));
    } else {
        with_scratch(states * chunk::state_len(shape.head_dim), |states| {
            context.split(&units, states);
        });
    }
}

/// All units, and how many partial states they have in split mode.
fn units<'a>(spans: &[AttentionSpan<'a>], shape: AttentionShape) -> (Vec<Unit<'a>>, usize) {
    let group = shape.heads / shape.kv_heads;
    let tile = (QUERIES_PER_TASK / group).max(1);
    let mut units = Vec::new();
    let mut state = 0;
    for span in spans {
        for i in (0..span.rows).step_by(tile) {
            for kv_head in 0..shape.kv_heads {
                let unit = Unit {
                    block_table: span.block_table,
                    row: span.first_row + i,
                    position: span.past + i,
                    rows: tile.min(span.rows - i),
                    kv_head,
                    state,
                };
                state += unit.chunks() * unit.rows * group;
                units.push(unit);
            }
        }
    }
    (units, state)
}

impl<E: Element> Context<'_, E> {
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    fn state_len(&self) -> usize {
        chunk::state_len(self.shape.head_dim)
    }

    /// One task for all chunks of a unit.
    fn whole(&self, unit: &Unit<'_>) {
        let len = unit.rows * self.group() * self.state_len();
        with_scratch(2 * len + self.chunk_scratch(), |scratch| {
            let (states, scratch) = scratch.split_at_mut(len);
            let (later, scratch) = scratch.split_at_mut(len);
            self.chunk(unit, 0, states, scratch);
            for chunk in 1..unit.chunks() {
                self.chunk(unit, chunk, later, scratch);
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
            with_scratch(self.chunk_scratch(), |scratch| {
                self.chunk(unit, chunk, states_of(unit, chunk), scratch);
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

    /// Scratch of [`Context::chunk`]: that of a tile, and a chunk's keys and values in f32.
    fn chunk_scratch(&self) -> usize {
        chunk::scratch_len(self.shape.head_dim) + 2 * CHUNK * self.shape.head_dim
    }

    /// Positions of chunk `chunk` that row `row` of the unit sees.
    fn visible(unit: &Unit<'_>, chunk: usize, row: usize) -> usize {
        (unit.position + row + 1).saturating_sub(chunk * CHUNK).min(CHUNK)
    }

    /// The states of all the unit's queries over one chunk.
    fn chunk(&self, unit: &Unit<'_>, chunk: usize, states: &mut [f32], scratch: &mut [f32]) {
        let d = self.shape.head_dim;
        let visible = Self::visible(unit, chunk, unit.rows - 1);
        let mut keys = [std::ptr::null(); CHUNK_BLOCKS];
        let mut values = [std::ptr::null(); CHUNK_BLOCKS];
        let blocks = visible.div_ceil(KV_BLOCK);
        for i in 0..blocks {
            let block = unit.block_table[chunk * CHUNK_BLOCKS + i] as usize;
            let start = (block * self.shape.kv_heads + unit.kv_head) * KV_BLOCK * d;
            keys[i] = self.keys[start..start + KV_BLOCK * d].as_ptr();
            values[i] = self.values[start..start + KV_BLOCK * d].as_ptr();
        }
        let (tile_scratch, wide) = scratch.split_at_mut(chunk::scratch_len(d));
        if E::IS_F32 || unit.rows * self.group() < WIDEN_FROM {
            self.tiles(unit, chunk, [keys, values], states, tile_scratch);
            return;
        }
        let mut wide = wide.chunks_exact_mut(KV_BLOCK * d);
        let mut widen = |from: *const E| {
            let Some(to) = wide.next() else { return std::ptr::null() };
            // SAFETY: both are one block of keys or values.
            unsafe { chunk::widen(self.isa, from, to.as_mut_ptr(), to.len()) };
            to.as_ptr()
        };
        let mut wide_keys = [std::ptr::null(); CHUNK_BLOCKS];
        let mut wide_values = [std::ptr::null(); CHUNK_BLOCKS];
        for i in 0..blocks {
            wide_keys[i] = widen(keys[i]);
            wide_values[i] = widen(values[i]);
        }
        self.tiles(unit, chunk, [wide_keys, wide_values], states, tile_scratch);
    }

    /// [`Context::chunk`] once it is known where the blocks lie.
    fn tiles<X: Element>(
        &self,
        unit: &Unit<'_>,
        chunk: usize,
        [keys, values]: [[*const X; CHUNK_BLOCKS]; 2],
        states: &mut [f32],
        scratch: &mut [f32],
    ) {
        let d = self.shape.head_dim;
        let group = self.group();
        let queries = unit.rows * group;
        let mut tile = Tile {
            keys,
            values,
            head_dim: d,
            scale: self.scale,
            count: 0,
            queries: [std::ptr::null(); QUERIES],
            visible: [0; QUERIES],
            states: [std::ptr::null_mut(); QUERIES],
            scratch: scratch.as_mut_ptr(),
        };
        let mut states = states.chunks_exact_mut(self.state_len());
        for first in (0..queries).step_by(QUERIES) {
            tile.count = QUERIES.min(queries - first);
            for i in 0..tile.count {
                let (row, head) = ((first + i) / group, (first + i) % group);
                let start = ((unit.row + row) * self.shape.heads + unit.kv_head * group + head) * d;
                tile.queries[i] = self.q[start..start + d].as_ptr();
                tile.visible[i] = Self::visible(unit, chunk, row);
                tile.states[i] = states.next().map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr);
            }
            // SAFETY: blocks up to the last visible position were looked up in bounds, queries
            // are slices of `d`, and there is a state for each query.
            unsafe { chunk::attend_chunk(self.isa, &tile) };
        }
    }

    /// Takes the states of a later chunk into those of the chunks before it.
    fn merge(&self, unit: &Unit<'_>, chunk: usize, states: &mut [f32], later: &[f32]) {
        let len = self.state_len();
        let pairs = states.chunks_exact_mut(len).zip(later.chunks_exact(len));
        for (i, (state, later)) in pairs.enumerate() {
            // A row that sees nothing of the chunk must not be touched by it.
            if Self::visible(unit, chunk, i / self.group()) > 0 {
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
