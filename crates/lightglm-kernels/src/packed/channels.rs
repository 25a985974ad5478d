//! Codes in the order of channels.
//!
//! ```text
//! codes [tile, channel, block of the tile, 64]   up to TILE_BLOCKS blocks to a tile
//! ```
//! A block is 64 rows with 8 bits and 128 with 4 bits, whose first 64 are the low nibbles. Among 64
//! rows, byte `16 l + 4 r + i` is that of row `16 r + 4 l + i`: interleaving the bytes of four
//! channels inside of each 128-bit lane, which is what vector units can do, then gives sixteen rows
//! times four channels in the order of a panel. Rows that fill up a block have the code 0.

use burn::tensor::Bytes;

use super::layout::{Lines, each_chunk};
use super::{PackedFormat, WeightBits};

/// Blocks of a channel that lie side by side: a run that is long enough for memory to like, and that
/// threads can share.
pub(crate) const TILE_BLOCKS: usize = 16;

/// Where the codes of a matrix lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelLayout {
    /// Channels, `K`.
    pub(crate) channels: usize,
    /// Blocks of rows.
    pub(crate) blocks: usize,
    /// Rows of a block.
    pub(crate) block_rows: usize,
}

impl ChannelLayout {
    /// For a matrix of `shape` (`[N, K]`).
    pub(crate) fn new([n, k]: [usize; 2], bits: WeightBits) -> Self {
        let block_rows = 512 / bits.count();
        Self { channels: k, blocks: n.div_ceil(block_rows), block_rows }
    }

    /// Bytes of all codes.
    pub(crate) fn len(&self) -> usize {
        self.blocks * self.channels * 64
    }

    /// Blocks of tile `tile`.
    pub(crate) fn tile_blocks(&self, tile: usize) -> usize {
        TILE_BLOCKS.min(self.blocks - tile * TILE_BLOCKS)
    }

    /// The byte with the code of row `row` and `channel`, and whether it is the low nibble of two.
    pub(crate) fn code(&self, codes: &[u8], row: usize, channel: usize) -> (u8, bool) {
        let (block, row) = (row / self.block_rows, row % self.block_rows);
        let (tile, within) = (block / TILE_BLOCKS, block % TILE_BLOCKS);
        let run = self.tile_start(tile) + (channel * self.tile_blocks(tile) + within) * 64;
        (codes[run + row_of_byte(row % 64)], row < 64)
    }

    /// Where the codes of tile `tile` begin.
    pub(crate) fn tile_start(&self, tile: usize) -> usize {
        tile * TILE_BLOCKS * self.channels * 64
    }
}

/// The row, among 64, whose code is byte `at`.
const fn row_of_byte(at: usize) -> usize {
    at / 4 % 4 * 16 + at / 16 * 4 + at % 4
}

/// `codes: [N, K]` in the order of channels.
pub(super) fn pack_channels(codes: &[u8], shape: [usize; 2], format: &PackedFormat) -> Bytes {
    let ([n, k], layout) = (shape, ChannelLayout::new(shape, format.bits));
    let mut packed = Lines::filled(layout.len(), 0);
    each_chunk(packed.as_mut(), TILE_BLOCKS * k * 64, |tile, packed| {
        let blocks = layout.tile_blocks(tile);
        for (at, byte) in packed.iter_mut().enumerate() {
            let (channel, block) = (at / 64 / blocks, at / 64 % blocks);
            let first = (tile * TILE_BLOCKS + block) * layout.block_rows;
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
        let (tile, within) = (block / TILE_BLOCKS, block % TILE_BLOCKS);
        let packed = &packed[layout.tile_start(tile)..];
        let stride = layout.tile_blocks(tile) * 64;
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
