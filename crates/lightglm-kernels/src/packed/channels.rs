//! Codes in the order of channels.
//!
//! ```text
//! codes  [tile, channel, block of the tile, 64]   up to MOST_BLOCKS blocks to a tile
//! scales [tile, group, row of the tile]
//! ```
//! A block is 64 rows with 8 bits and 128 with 4 bits, whose first 64 are the low nibbles. Among 64
//! rows, byte `16 l + 4 r + i` is that of row `16 r + 4 l + i`: interleaving the bytes of four
//! channels inside of each 128-bit lane, which is what vector units can do, then gives sixteen rows
//! times four channels in the order of a panel. Rows that fill up a block have the code 0.

use std::ops::Range;

use burn::tensor::Bytes;

use super::layout::each_chunk;
use super::{PANEL_ROWS, PackedFormat, WeightBits};
use crate::pages::Pages;

/// Blocks of a channel that lie side by side at most: a page of memory, beyond which a processor does
/// not fetch ahead. Reading half of such runs at random is as fast as reading everything in order;
/// runs of a quarter of a page take nearly twice as long a byte.
const MOST_BLOCKS: usize = 64;

/// Where the codes of a matrix lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelLayout {
    /// Channels, `K`.
    pub(crate) channels: usize,
    /// Blocks of rows.
    pub(crate) blocks: usize,
    /// Rows of a block.
    pub(crate) block_rows: usize,
    /// Blocks of every tile but the last, which may have fewer.
    tile_blocks: usize,
}

impl ChannelLayout {
    /// For a matrix of `shape` (`[N, K]`).
    pub(crate) fn new([n, k]: [usize; 2], bits: WeightBits) -> Self {
        let block_rows = 512 / bits.count();
        let blocks = n.div_ceil(block_rows);
        let tiles = blocks.div_ceil(MOST_BLOCKS).max(1);
        Self { channels: k, blocks, block_rows, tile_blocks: blocks.div_ceil(tiles).max(1) }
    }

    /// Tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.blocks.div_ceil(self.tile_blocks)
    }

    /// The blocks of tile `tile`.
    pub(crate) fn blocks_of(&self, tile: usize) -> Range<usize> {
        let first = tile * self.tile_blocks;
        first..self.blocks.min(first + self.tile_blocks)
    }

    /// Panels of every tile but the last.
    pub(super) fn tile_panels(&self) -> usize {
        self.tile_blocks * self.block_rows / PANEL_ROWS
    }

    /// Bytes of all codes.
    pub(crate) fn len(&self) -> usize {
        self.blocks * self.channels * 64
    }

    /// Bytes from a channel to the next in tile `tile`.
    pub(crate) fn stride(&self, tile: usize) -> usize {
        self.blocks_of(tile).len() * 64
    }

    /// The byte with the code of row `row` and `channel`, and whether it is the low nibble of two.
    pub(crate) fn code(&self, codes: &[u8], row: usize, channel: usize) -> (u8, bool) {
        let (block, row) = (row / self.block_rows, row % self.block_rows);
        let (tile, within) = (block / self.tile_blocks, block % self.tile_blocks);
        let run = self.tile_start(tile) + channel * self.stride(tile) + within * 64;
        (codes[run + row_of_byte(row % 64)], row < 64)
    }

    /// Where the codes of tile `tile` begin.
    pub(crate) fn tile_start(&self, tile: usize) -> usize {
        tile * self.tile_blocks * self.channels * 64
    }
}

/// The row, among 64, whose code is byte `at`.
const fn row_of_byte(at: usize) -> usize {
    at / 4 % 4 * 16 + at / 16 * 4 + at % 4
}

/// `codes: [N, K]` in the order of channels.
pub(super) fn pack_channels(codes: &[u8], shape: [usize; 2], format: &PackedFormat) -> Bytes {
    let ([n, k], layout) = (shape, ChannelLayout::new(shape, format.bits));
    let mut packed = Pages::zeroed(layout.len());
    each_chunk(&mut packed, layout.tile_blocks * k * 64, |tile, packed| {
        let blocks = layout.blocks_of(tile);
        for (at, byte) in packed.iter_mut().enumerate() {
            let (channel, block) = (at / 64 / blocks.len(), at / 64 % blocks.len());
            let first = (blocks.start + block) * layout.block_rows;
            let row = first + row_of_byte(at % 64);
            let code = |row: usize| if row < n { codes[row * k + channel] } else { 0 };
            *byte = match format.bits {
                WeightBits::Eight => code(row),
                WeightBits::Four => code(row) | code(row + 64) << 4,
            };
        }
    });
    packed.into_bytes()
}

/// The codes `[N, K]` of a matrix in the order of channels.
pub(super) fn unpack_channels(packed: &[u8], shape: [usize; 2], format: &PackedFormat) -> Vec<u8> {
    let ([_, k], layout) = (shape, ChannelLayout::new(shape, format.bits));
    let mut codes = vec![0; shape[0] * k];
    each_chunk(&mut codes, layout.block_rows * k, |block, codes| {
        let (tile, within) = (block / layout.tile_blocks, block % layout.tile_blocks);
        let packed = &packed[layout.tile_start(tile)..];
        let stride = layout.stride(tile);
        for (row, codes) in codes.chunks_exact_mut(k.max(1)).enumerate() {
            // `row_of_byte` exchanges two digits, which undoes itself.
            let at = within * 64 + row_of_byte(row % 64);
            for (channel, code) in codes.iter_mut().enumerate() {
                let byte = packed[channel * stride + at];
                *code = match (format.bits, row < 64) {
                    (WeightBits::Eight, _) => byte,
                    (WeightBits::Four, true) => byte & 15,
                    (WeightBits::Four, false) => byte >> 4,
                };
            }
        }
    });
    codes
}
