//! Which channels are active: those of which some lane's code is not zero.

use super::activations::{Code, Tile};
use super::segments::Cut;
use super::tile::Problem;

/// The active channels of a tile of activations.
pub(super) struct Active {
    /// Channels, segment after segment, each filled up to a multiple of four with a channel whose
    /// activations count as 0.
    pub(super) channels: *const u32,
    /// `[quad of active channels, lane, 4]`, as in [`Tile`].
    pub(super) codes: *const i8,
    /// Where each segment's quads end.
    pub(super) ends: *const u32,
}

// SAFETY: the pointers are into the scratch of the calling thread, which is only read while the
// team works.
unsafe impl Sync for Active {}

/// How many channels are active for any of the lanes of `tile`.
pub(super) fn count_active(p: &Problem, tile: Tile) -> usize {
    match p.layout.quad {
        8 => count::<i16>(p, tile),
        _ => count::<i8>(p, tile),
    }
}

fn count<C: Code>(p: &Problem, tile: Tile) -> usize {
    let (lanes, k) = (tile.lanes, p.layout.cut.k);
    // SAFETY: the tile's codes are quads of `lanes` lanes, padded to whole quads.
    let quads =
        unsafe { std::slice::from_raw_parts(tile.codes.cast::<C>(), k.div_ceil(4) * lanes * 4) };
    let mut active = 0;
    for quad in quads.chunks_exact(lanes * 4) {
        for j in 0..4 {
            active += usize::from((0..lanes).any(|lane| quad[lane * 4 + j] != C::default()));
        }
    }
    active
}

/// Writes the channels that are active for any lane, their codes, and where segments end, as
/// [`Active`] says.
///
/// # Safety
/// The tile is whole and has codes of type `C`, and the places have room for `k` channels and three
/// more of each segment.
pub(super) unsafe fn list<C: Code>(
    cut: Cut,
    tile: Tile,
    channels: *mut u32,
    codes: *mut C,
    ends: *mut u32,
) {
    // One lane's quads lie side by side; the general case takes several times as long, and this is
    // what the other threads wait for.
    // SAFETY: the caller's contract.
    unsafe {
        match tile.lanes {
            1 => list_lanes(cut, 1, tile.codes.cast(), channels, codes, ends),
            lanes => list_lanes(cut, lanes, tile.codes.cast(), channels, codes, ends),
        }
    }
}

#[inline(always)]
unsafe fn list_lanes<C: Code>(
    cut: Cut,
    lanes: usize,
    all: *const C,
    channels: *mut u32,
    codes: *mut C,
    ends: *mut u32,
) {
    let place = |channel: usize| channel / 4 * lanes * 4 + C::place_of_column(channel % 4);
    // SAFETY: the caller's contract.
    unsafe {
        let mut count = 0;
        for (index, segment) in cut.segments().enumerate() {
            let first = count;
            for channel in segment.start..segment.end {
                let at = all.add(place(channel));
                let any =
                    (0..lanes).fold(false, |any, lane| any | (*at.add(lane * 4) != C::default()));
                *channels.add(count) = channel as u32;
                count += usize::from(any);
            }
            let end = count;
            while !count.is_multiple_of(4) {
                *channels.add(count) = *channels.add(end - 1);
                count += 1;
            }
            for i in first..count {
                let from = all.add(place(*channels.add(i) as usize));
                let to = codes.add(place(i));
                for lane in 0..lanes {
                    *to.add(lane * 4) = if i < end { *from.add(lane * 4) } else { C::default() };
                }
            }
            *ends.add(index) = (count / 4) as u32;
        }
    }
}
