//! Tiles of rows in which the weights of a channel lie side by side.

use super::super::super::scratch::Shared;
use super::super::super::team;

/// Rows of a tile are a multiple of this: whole cache lines whatever the precision.
pub const CHANNEL_TILE_STEP: usize = 64;

/// Bytes of a channel in a tile at most. Memory is read at half its speed in runs of 512 bytes that
/// are left out now and then, and at full speed in runs of a page.
const RUN: usize = 4096;

/// Channels that are transposed at a time.
const BLOCK: usize = 64;

/// How many rows of a matrix with `n` rows lie in a tile, for elements of `element_size` bytes.
///
/// A channel's run is 4 KB at most. Tiles are nearly equal and, where there are rows enough, even
/// in number, so that two threads share tiles and not runs.
pub fn channel_tile_rows(n: usize, element_size: usize) -> usize {
    let most = (RUN / element_size.max(1)).max(CHANNEL_TILE_STEP);
    let tiles = n.div_ceil(most).max(1);
    let tiles = if n > CHANNEL_TILE_STEP { tiles.next_multiple_of(2) } else { tiles };
    n.div_ceil(tiles).max(1).next_multiple_of(CHANNEL_TILE_STEP)
}

/// Writes `w: [N, K]` to `tiles: [tiles, K, tile_rows]`; the rows that fill up the last tile are left
/// as they are. `shape` is `[N, K]`.
pub(crate) fn to_channel_tiles<E: Copy + Send + Sync>(
    w: &[E],
    [n, k]: [usize; 2],
    tile_rows: usize,
    tiles: &mut [E],
) {
    assert_eq!(w.len(), n * k, "weights have {} elements, not N * K = {n} * {k}", w.len());
    let expected = n.div_ceil(tile_rows) * k * tile_rows;
    assert_eq!(tiles.len(), expected, "tiles have {} elements, not {expected}", tiles.len());
    let blocks = k.div_ceil(BLOCK);
    let out = Shared(tiles.as_mut_ptr());
    team::parallel_for(n.div_ceil(tile_rows) * blocks, |task| {
        let (tile, first) = (task / blocks, task % blocks * BLOCK);
        let (channels, start) = (first..k.min(first + BLOCK), (tile * k + first) * tile_rows);
        let len = channels.len() * tile_rows;
        // SAFETY: the channels of a tile lie inside of `tiles` and are this task's alone.
        let runs = unsafe { std::slice::from_raw_parts_mut(out.get().add(start), len) };
        let rows = tile * tile_rows..n.min((tile + 1) * tile_rows);
        // A few rows at a time, so that the lines they are written to stay in the cache.
        for some in rows.clone().step_by(CHANNEL_TILE_STEP) {
            for row in some..rows.end.min(some + CHANNEL_TILE_STEP) {
                let from = &w[row * k..][channels.clone()];
                for (channel, &weight) in from.iter().enumerate() {
                    runs[channel * tile_rows + row - rows.start] = weight;
                }
            }
        }
    });
}
