//! Attention over a pool of eight-bit codes.

use lightglm_core::KV_BLOCK;

use super::super::isa::Isa;
use super::super::kv_int8::Int8Pool;
use super::chunk::QUERIES;
use super::int8_chunk::{self, Int8Tile};
use super::schedule::{Context, Pool, Unit};
use super::{AttentionShape, CHUNK_BLOCKS};

impl Pool for Int8Pool<'_> {
    fn chunk_scratch(&self, head_dim: usize) -> usize {
        int8_chunk::scratch_len(head_dim)
    }

    fn tile_len(&self, head_dim: usize) -> usize {
        int8_chunk::tile_len(head_dim)
    }

    fn prepare(&self, isa: Isa, queries: &[&[f32]], tile: &mut [f32]) {
        int8_chunk::prepare(isa, queries, self.rotate_keys, tile);
    }

    fn chunk(
        &self,
        context: &Context<'_, Self>,
        unit: &Unit<'_>,
        chunk: usize,
        states: &mut [f32],
        scratch: &mut [f32],
    ) {
        let AttentionShape { kv_heads, head_dim, .. } = context.shape;
        let mut tile = Int8Tile {
            blocks: unit.visible(chunk, unit.rows - 1).div_ceil(KV_BLOCK),
            key_codes: [std::ptr::null(); CHUNK_BLOCKS],
            key_scales: [std::ptr::null(); CHUNK_BLOCKS],
            value_codes: [std::ptr::null(); CHUNK_BLOCKS],
            value_scales: [std::ptr::null(); CHUNK_BLOCKS],
            head_dim,
            scale: context.scale,
            count: 0,
            queries: std::ptr::null(),
            visible: [0; QUERIES],
            states: [std::ptr::null_mut(); QUERIES],
            scratch: scratch.as_mut_ptr(),
        };
        let codes = KV_BLOCK * head_dim.next_multiple_of(4);
        for i in 0..tile.blocks {
            let block = unit.block_table[chunk * CHUNK_BLOCKS + i] as usize;
            let block = block * kv_heads + unit.kv_head;
            tile.key_codes[i] = self.key_codes[block * codes..][..codes].as_ptr();
            tile.value_codes[i] = self.value_codes[block * codes..][..codes].as_ptr();
            tile.key_scales[i] = self.key_scales[block * KV_BLOCK..][..KV_BLOCK].as_ptr();
            tile.value_scales[i] = self.value_scales[block * KV_BLOCK..][..KV_BLOCK].as_ptr();
        }
        let queries = unit.rows * context.group();
        let mut states = states.chunks_exact_mut(context.state_len());
        for (number, first) in (0..queries).step_by(QUERIES).enumerate() {
            tile.count = QUERIES.min(queries - first);
            tile.queries = context.prepared(unit, number);
            for i in 0..tile.count {
                tile.visible[i] = unit.visible(chunk, (first + i) / context.group());
                tile.states[i] = states.next().map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr);
            }
            // SAFETY: blocks up to the last visible position were looked up in bounds, the tile's
            // queries were prepared, and there is a state for each of them.
            unsafe { int8_chunk::attend_chunk(context.isa, &tile) };
        }
    }
}
