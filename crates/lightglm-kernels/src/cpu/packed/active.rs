//! Which channels are active: those of which some lane's code is not zero.

use super::activations::Tile;
use super::segments::Cut;
use super::tile::Problem;

/// The active channels of a tile of activations.
pub(super) struct Active {
    /// Channels, segment after segment, each filled up to a multiple of four with a channel whose
    /// activations count as 0.
    pub(super) channels: *const u32,
    /// `[quad of active channels, lane, 4]`.
    pub(super) codes: *const i8,
    /// Where each segment's quads end.
    pub(super) ends: *const u32,
}

// SAFETY: the pointers are into the scratch of the calling thread, which is only read while the
// team works.
unsafe impl Sync for Active {}

/// How many channels are active for any of the lanes of `tile`.
pub(super) fn count_active(p: &Problem, tile: Tile) -> usize {
    let (lanes, k) = (tile.lanes, p.layout.cut.k);
    // SAFETY: the tile's codes are quads of `lanes` lanes, padded to whole quads.
    let quads = unsafe { std::slice::from_raw_parts(tile.codes, k.div_ceil(4) * lanes * 4) };
    let mut active = 0;
    for quad in quads.chunks_exact(lanes * 4) {
        for j in 0..4 {
            active += usize::from((0..lanes).any(|lane| quad[lane * 4 + j] != 0));
        }
    }
    active
}

/// Writes the channels that are active for any lane, their codes, and where segments end, as
/// [`Active`] says.
///
/// # Safety
/// The tile is whole, and the places have room for `k` channels and three more of each segment.
pub(super) unsafe fn list(
    cut: Cut,
    tile: Tile,
    channels: *mut u32,
    codes: *mut i8,
    ends: *mut u32,
) {
    let lanes = tile.lanes;
    // SAFETY: the caller's contract.
    unsafe {
        let place =
            |codes: *mut i8, channel: usize| codes.add(channel / 4 * lanes * 4 + channel % 4);
        let mut count = 0;
        for (index, segment) in cut.segments().enumerate() {
            let first = count;
            // One lane's codes lie in the order of channels; the general case takes several times
            // as long, and this is what the other threads wait for.
            for channel in segment.start..segment.end {
                let any = match lanes {
                    1 => *tile.codes.add(channel),
                    _ => {
                        let at = place(tile.codes, channel);
                        (0..lanes).fold(0, |any, lane| any | *at.add(lane * 4))
                    }
                };
                *channels.add(count) = channel as u32;
                count += usize::from(any != 0);
            }
            let end = count;
            while !count.is_multiple_of(4) {
                *channels.add(count) = *channels.add(end - 1);
                count += 1;
            }
            if lanes == 1 {
                for i in first..end {
                    *codes.add(i) = *tile.codes.add(*channels.add(i) as usize);
                }
                (end..count).for_each(|i| *codes.add(i) = 0);
            } else {
                for i in first..count {
                    let from = place(tile.codes, *channels.add(i) as usize);
                    let to = place(codes, i);
                    for lane in 0..lanes {
                        *to.add(lane * 4) = if i < end { *from.add(lane * 4) } else { 0 };
                    }
                }
            }
            *ends.add(index) = (count / 4) as u32;
        }
    }
}
