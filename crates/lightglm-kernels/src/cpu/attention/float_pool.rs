//! Attention over a pool of f32, f16 or bf16 numbers.

use lightglm_core::KV_BLOCK;

use super::super::element::Element;
use super::chunk::{self, QUERIES, Tile};
use super::schedule::{Context, Pool, Unit};
use super::{AttentionShape, CHUNK, CHUNK_BLOCKS};

/// From this many queries on, a chunk is widened to f32 once instead of in every tile.
const WIDEN_FROM: usize = 3 * QUERIES;

/// A layer's keys `[P, Kh, d, 16]` and values `[P, Kh, 16, d]`.
pub(super) struct FloatPool<'a, E> {
    pub(super) keys: &'a [E],
    pub(super) values: &'a [E],
}

impl<E: Element> Pool for FloatPool<'_, E> {
    /// That of a tile, and a chunk's keys and values in f32.
    fn chunk_scratch(&self, head_dim: usize) -> usize {
        chunk::scratch_len(head_dim) + 2 * CHUNK * head_dim
    }

    fn chunk(
        &self,
        context: &Context<'_, Self>,
        unit: &Unit<'_>,
        chunk: usize,
        states: &mut [f32],
        scratch: &mut [f32],
    ) {
        let AttentionShape { kv_heads, head_dim: d, .. } = context.shape;
        let visible = unit.visible(chunk, unit.rows - 1);
        let mut keys = [std::ptr::null(); CHUNK_BLOCKS];
        let mut values = [std::ptr::null(); CHUNK_BLOCKS];
        let blocks = visible.div_ceil(KV_BLOCK);
        for i in 0..blocks {
            let block = unit.block_table[chunk * CHUNK_BLOCKS + i] as usize;
            let start = (block * kv_heads + unit.kv_head) * KV_BLOCK * d;
            keys[i] = self.keys[start..start + KV_BLOCK * d].as_ptr();
            values[i] = self.values[start..start + KV_BLOCK * d].as_ptr();
        }
        let (tile_scratch, wide) = scratch.split_at_mut(chunk::scratch_len(d));
        if E::IS_F32 || unit.rows * context.group() < WIDEN_FROM {
            tiles(context, unit, chunk, [keys, values], states, tile_scratch);
            return;
        }
        let mut wide = wide.chunks_exact_mut(KV_BLOCK * d);
        let mut widen = |from: *const E| {
            let Some(to) = wide.next() else { return std::ptr::null() };
            // SAFETY: both are one block of keys or values.
            unsafe { chunk::widen(context.isa, from, to.as_mut_ptr(), to.len()) };
            to.as_ptr()
        };
        let mut wide_keys = [std::ptr::null(); CHUNK_BLOCKS];
        let mut wide_values = [std::ptr::null(); CHUNK_BLOCKS];
        for i in 0..blocks {
            wide_keys[i] = widen(keys[i]);
            wide_values[i] = widen(values[i]);
        }
        tiles(context, unit, chunk, [wide_keys, wide_values], states, tile_scratch);
    }
}

/// [`Pool::chunk`] once it is known where the blocks lie.
fn tiles<P: Pool, X: Element>(
    context: &Context<'_, P>,
    unit: &Unit<'_>,
    chunk: usize,
    [keys, values]: [[*const X; CHUNK_BLOCKS]; 2],
    states: &mut [f32],
    scratch: &mut [f32],
) {
    let queries = unit.rows * context.group();
    let mut tile = Tile {
        keys,
        values,
        head_dim: context.shape.head_dim,
        scale: context.scale,
        count: 0,
        queries: [std::ptr::null(); QUERIES],
        visible: [0; QUERIES],
        states: [std::ptr::null_mut(); QUERIES],
        scratch: scratch.as_mut_ptr(),
    };
    let mut states = states.chunks_exact_mut(context.state_len());
    for first in (0..queries).step_by(QUERIES) {
        tile.count = QUERIES.min(queries - first);
        for i in 0..tile.count {
            tile.queries[i] = context.query(unit, first + i).as_ptr();
            tile.visible[i] = unit.visible(chunk, (first + i) / context.group());
            tile.states[i] = states.next().map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr);
        }
        // SAFETY: blocks up to the last visible position were looked up in bounds, queries
        // are slices of `d`, and there is a state for each query.
        unsafe { chunk::attend_chunk(context.isa, &tile) };
    }
}
