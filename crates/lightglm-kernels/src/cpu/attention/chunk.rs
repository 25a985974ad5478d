//! One chunk of the context, for a few queries that share its loads.
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts through several register arrays at once"
)]

use lightglm_core::KV_BLOCK;

use super::super::element::Element;
use super::super::exp::exp;
use super::super::isa::kernel;
use super::super::simd::{LANES, Simd};
use super::{CHUNK, CHUNK_BLOCKS};

/// Queries that one tile takes at most.
pub(super) const QUERIES: usize = 8;

/// f32 elements of a state: the maximum, the sum, and behind [`LANES`] elements the values.
pub(super) const fn state_len(head_dim: usize) -> usize {
    LANES + head_dim.next_multiple_of(LANES)
}

/// f32 elements of scratch that [`attend_chunk`] needs.
pub(super) const fn scratch_len(head_dim: usize) -> usize {
    QUERIES * CHUNK + QUERIES * head_dim
}

/// A chunk's blocks for one kv head, and the queries that look at it.
pub(super) struct Tile<E> {
    /// Where each block's keys `[d, 16]` lie: as many blocks as the last query sees, then null.
    pub(super) keys: [*const E; CHUNK_BLOCKS],
    /// Where each block's values `[16, d]` lie.
    pub(super) values: [*const E; CHUNK_BLOCKS],
    pub(super) head_dim: usize,
    pub(super) scale: f32,
    /// Number of queries.
    pub(super) count: usize,
    /// `[d]` each.
    pub(super) queries: [*const f32; QUERIES],
    /// Positions of this chunk that each query sees.
    pub(super) visible: [usize; QUERIES],
    /// Where each query's state goes, [`state_len`] elements each.
    pub(super) states: [*mut f32; QUERIES],
    /// [`scratch_len`] elements.
    pub(super) scratch: *mut f32,
}

kernel! {
    /// Computes the states of the tile's queries over its chunk; a query that sees nothing of it
    /// gets no state.
    ///
    /// # Safety
    /// The pointers are valid for the shapes stated at [`Tile`], and no one else uses the states
    /// and the scratch.
    pub(super) unsafe fn attend_chunk<E: Element>(tile: &Tile<E>) = attend_chunk_on;
}

kernel! {
    /// Takes the state of a later chunk into `state`.
    ///
    /// # Safety
    /// Both point at `state_len(head_dim)` elements.
    pub(super) unsafe fn merge(state: *mut f32, later: *const f32, head_dim: usize) = merge_on;
}

kernel! {
    /// `out = values / sum` of a state.
    ///
    /// # Safety
    /// `state` points at `state_len(out.len())` elements.
    pub(super) unsafe fn finish(state: *const f32, out: &mut [f32]) = finish_on;
}

kernel! {
    /// Copies `len` elements as f32.
    ///
    /// # Safety
    /// Both pointers are valid for `len` elements.
    pub(super) unsafe fn widen<E: Element>(from: *const E, to: *mut f32, len: usize) = widen_on;
}

/// See [`attend_chunk`].
#[inline(always)]
unsafe fn attend_chunk_on<S: Simd, E: Element>(tile: &Tile<E>) {
    let mut first = 0;
    while first < tile.count {
        let left = tile.count - first;
        // SAFETY: queries `first..first + left` exist; the rest is the caller's contract.
        first += unsafe {
            if S::WIDE && left >= 8 {
                attend::<S, E, 8>(tile, first)
            } else if left >= 4 {
                attend::<S, E, 4>(tile, first)
            } else if left >= 2 {
                attend::<S, E, 2>(tile, first)
            } else {
                attend::<S, E, 1>(tile, first)
            }
        };
    }
}

/// `H` queries from number `first` on.
#[inline(always)]
unsafe fn attend<S: Simd, E: Element, const H: usize>(tile: &Tile<E>, first: usize) -> usize {
    let visible = &tile.visible[first..first + H];
    let most = visible.iter().copied().max().unwrap_or(0);
    let common = visible.iter().copied().min().unwrap_or(0);
    let d = tile.head_dim;
    let probabilities = tile.scratch;
    // SAFETY: the scratch has room for `QUERIES` rows of a chunk and for `QUERIES` queries; blocks
    // up to the last visible position exist.
    unsafe {
        let queries = tile.scratch.add(QUERIES * CHUNK);
        for i in 0..d {
            for h in 0..H {
                *queries.add(i * H + h) = *tile.queries[first + h].add(i);
            }
        }
        scores::<S, E, H>(tile, queries, most.div_ceil(KV_BLOCK), probabilities);
        for h in 0..H {
            if visible[h] > 0 {
                softmax::<S>(probabilities.add(h * CHUNK), visible[h], tile.states[first + h]);
            }
        }
        weighted_values::<S, E, H>(tile, first, 0, common, probabilities);
        for h in 0..H {
            if visible[h] > common {
                let row = probabilities.add(h * CHUNK);
                weighted_values::<S, E, 1>(tile, first + h, common, visible[h], row);
            }
        }
    }
    H
}

/// `scores[h][p] = scale * sum over i of q[h][i] K[i][p]`, the sum in the order of `i`.
#[inline(always)]
unsafe fn scores<S: Simd, E: Element, const H: usize>(
    tile: &Tile<E>,
    queries: *const f32,
    blocks: usize,
    scores: *mut f32,
) {
    let mut block = 0;
    while block < blocks {
        // SAFETY: blocks below `blocks` exist.
        block += unsafe {
            if S::WIDE && block + 2 <= blocks {
                score_blocks::<S, E, H, 2>(tile, queries, block, scores)
            } else {
                score_blocks::<S, E, H, 1>(tile, queries, block, scores)
            }
        };
    }
}

/// `N` blocks of scores, from `block` on.
#[inline(always)]
unsafe fn score_blocks<S: Simd, E: Element, const H: usize, const N: usize>(
    tile: &Tile<E>,
    queries: *const f32,
    block: usize,
    scores: *mut f32,
) -> usize {
    // SAFETY: `block..block + N` exist and hold `d` rows of sixteen keys; `queries` is `[d, H]`.
    unsafe {
        let mut sums = [[S::zero(); N]; H];
        let mut blocks = [std::ptr::null(); N];
        // What is read next: the blocks after these, or the first values. Blocks are too short and
        // too scattered for a hardware prefetcher.
        let mut next = [std::ptr::null(); N];
        for n in 0..N {
            blocks[n] = tile.keys[block + n];
            let ahead = block + n + N;
            let keys = tile.keys[ahead % CHUNK_BLOCKS];
            let more = ahead < CHUNK_BLOCKS && !keys.is_null();
            next[n] = if more { keys } else { tile.values[n] };
        }
        for i in 0..tile.head_dim {
            let mut keys = [S::zero(); N];
            for n in 0..N {
                S::prefetch(next[n].wrapping_add(i * KV_BLOCK).cast());
                keys[n] = E::load(blocks[n].add(i * KV_BLOCK));
            }
            for h in 0..H {
                let q = S::splat(*queries.add(i * H + h));
                for n in 0..N {
                    sums[h][n] = q.fma(keys[n], sums[h][n]);
                }
            }
        }
        let scale = S::splat(tile.scale);
        for h in 0..H {
            for n in 0..N {
                sums[h][n].mul(scale).store(scores.add(h * CHUNK + (block + n) * KV_BLOCK));
            }
        }
    }
    N
}

/// Replaces `visible > 0` scores by `e^(s - max)` and writes maximum and sum to the state.
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(scores: *mut f32, visible: usize, state: *mut f32) {
    let whole = visible / LANES * LANES;
    let rest = visible - whole;
    // SAFETY: `scores` has room for a chunk, so for whole vectors up to `visible`.
    unsafe {
        let mut max = S::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            max = S::load(scores.add(i)).max(max);
        }
        if rest > 0 {
            max = S::load(scores.add(whole)).keep_first(rest, f32::NEG_INFINITY).max(max);
        }
        let max = max.reduce_max();
        let shift = S::splat(max);
        let mut sum = S::zero();
        for i in (0..whole).step_by(LANES) {
            let p = exp(S::load(scores.add(i)).sub(shift));
            p.store(scores.add(i));
            sum = sum.add(p);
        }
        if rest > 0 {
            let p = exp(S::load(scores.add(whole)).sub(shift)).keep_first(rest, 0.0);
            p.store(scores.add(whole));
            sum = sum.add(p);
        }
        *state = max;
        *state.add(1) = sum.reduce_add();
    }
}

/// `values[h] = sum over positions of p[h][position] V[position]`, in the order of positions; from
/// position 0 on it starts, otherwise it goes on.
#[inline(always)]
unsafe fn weighted_values<S: Simd, E: Element, const H: usize>(
    tile: &Tile<E>,
    first: usize,
    from: usize,
    to: usize,
    probabilities: *const f32,
) {
    let d = tile.head_dim;
    let mut column = 0;
    // SAFETY: columns stay below `d`, and the states have room for `d` values.
    unsafe {
        if S::WIDE {
            while column + 2 * LANES <= d {
                columns::<S, E, H, 2>(tile, first, from, to, probabilities, column);
                column += 2 * LANES;
            }
        }
        while column + LANES <= d {
            columns::<S, E, H, 1>(tile, first, from, to, probabilities, column);
            column += LANES;
        }
        if column < d {
            last_columns::<S, E, H>(tile, first, from, to, probabilities, column);
        }
    }
}

/// `J` vectors of columns of [`weighted_values`].
#[inline(always)]
unsafe fn columns<S: Simd, E: Element, const H: usize, const J: usize>(
    tile: &Tile<E>,
    first: usize,
    from: usize,
    to: usize,
    probabilities: *const f32,
    column: usize,
) {
    // SAFETY: positions below `to` lie in existing blocks, columns below `d`.
    unsafe {
        let mut sums = [[S::zero(); J]; H];
        if from > 0 {
            for h in 0..H {
                for j in 0..J {
                    let at = tile.states[first + h].add(LANES + column + j * LANES);
                    sums[h][j] = S::load(at);
                }
            }
        }
        let mut position = from;
        while position < to {
            let end = to.min((position / KV_BLOCK + 1) * KV_BLOCK);
            let block = tile.values[position / KV_BLOCK].add(column);
            let next = tile.values[(position / KV_BLOCK + 1) % CHUNK_BLOCKS].wrapping_add(column);
            while position < end {
                let offset = position % KV_BLOCK * tile.head_dim;
                let row = block.add(offset);
                let mut values = [S::zero(); J];
                for j in 0..J {
                    if (j * LANES * size_of::<E>()).is_multiple_of(64) {
                        S::prefetch(next.wrapping_add(offset + j * LANES).cast());
                    }
                    values[j] = E::load(row.add(j * LANES));
                }
                for h in 0..H {
                    let p = S::splat(*probabilities.add(h * CHUNK + position));
                    for j in 0..J {
                        sums[h][j] = p.fma(values[j], sums[h][j]);
                    }
                }
                position += 1;
            }
        }
        for h in 0..H {
            for j in 0..J {
                sums[h][j].store(tile.states[first + h].add(LANES + column + j * LANES));
            }
        }
    }
}

/// The columns that do not fill a vector.
#[inline(always)]
unsafe fn last_columns<S: Simd, E: Element, const H: usize>(
    tile: &Tile<E>,
    first: usize,
    from: usize,
    to: usize,
    probabilities: *const f32,
    column: usize,
) {
    let len = tile.head_dim - column;
    // SAFETY: as in `columns`; states are padded to whole vectors.
    unsafe {
        let mut sums = [S::zero(); H];
        if from > 0 {
            for h in 0..H {
                sums[h] = S::load(tile.states[first + h].add(LANES + column));
            }
        }
        for position in from..to {
            let block = tile.values[position / KV_BLOCK].add(column);
            let values: S = E::load_part(block.add(position % KV_BLOCK * tile.head_dim), len);
            for h in 0..H {
                let p = S::splat(*probabilities.add(h * CHUNK + position));
                sums[h] = p.fma(values, sums[h]);
            }
        }
        for h in 0..H {
            sums[h].store(tile.states[first + h].add(LANES + column));
        }
    }
}

/// See [`merge`].
#[inline(always)]
unsafe fn merge_on<S: Simd>(state: *mut f32, later: *const f32, head_dim: usize) {
    // SAFETY: both states have `LANES` elements and whole vectors of values behind them.
    unsafe {
        let (max, max_later) = (S::splat(*state), S::splat(*later));
        let max_both = max_later.max(max);
        let keep = exp(max.sub(max_both));
        let take = exp(max_later.sub(max_both));
        let sum = S::splat(*state.add(1)).fma(keep, S::splat(*later.add(1)).mul(take));
        for i in (LANES..state_len(head_dim)).step_by(LANES) {
            let taken = S::load(later.add(i)).mul(take);
            S::load(state.add(i)).fma(keep, taken).store(state.add(i));
        }
        let mut lanes = [0.0f32; LANES];
        sum.store(lanes.as_mut_ptr());
        *state.add(1) = lanes[0];
        max_both.store(lanes.as_mut_ptr());
        *state = lanes[0];
    }
}

/// See [`finish`].
#[inline(always)]
unsafe fn finish_on<S: Simd>(state: *const f32, out: &mut [f32]) {
    // SAFETY: the state's values are padded to whole vectors.
    unsafe {
        let sum = S::splat(*state.add(1));
        for i in (0..out.len()).step_by(LANES) {
            let values = S::load(state.add(LANES + i)).div(sum);
            if i + LANES <= out.len() {
                values.store(out.as_mut_ptr().add(i));
            } else {
                values.store_part(out.as_mut_ptr().add(i), out.len() - i);
            }
        }
    }
}

/// See [`widen`].
#[inline(always)]
unsafe fn widen_on<S: Simd, E: Element>(from: *const E, to: *mut f32, len: usize) {
    let whole = len / LANES * LANES;
    // SAFETY: the caller's contract.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            E::load::<S>(from.add(i)).store(to.add(i));
        }
        if whole < len {
            E::load_part::<S>(from.add(whole), len - whole).store_part(to.add(whole), len - whole);
        }
    }
}
