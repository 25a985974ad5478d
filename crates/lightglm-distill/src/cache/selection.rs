//! Which of a row's tokens are stored with their probabilities, and how many are drawn from the others.

use super::bits::{best_rice, exp_golomb_bits};
use super::levels::{SHARE_BITS, level, precision};
use super::probabilities::Probabilities;
use super::row_code::{FIXED_BITS, ID_ORDERS, MOST_TOKENS};

/// What a sample may add to a row's divergence, as about its standard deviation for a student whose logarithms are
/// 1 nat off in the tail. A row that gets there spends no more bits.
const ENOUGH: f64 = 1e-4;

/// A token less likely than this beside the likeliest has no level.
const LEAST: f32 = 1e-15;

/// A way to spend a row's bits.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The likeliest tokens, which ascend.
    pub(super) exact: Vec<u32>,
    /// What all others weigh.
    pub(super) tail: f64,
    /// How many of them are to be drawn.
    pub(super) draws: usize,
    /// The variance of the divergence over draws, for a student that is 1 nat off.
    variance: f64,
    bits: usize,
}

/// The one of fewest bits that is good enough, or the best of all.
pub(super) fn select(row: &Probabilities, budget_bits: usize) -> Selection {
    let most = (budget_bits / 8).min(MOST_TOKENS);
    let likeliest = row.likeliest(most, LEAST);
    let tails = tails(row, &likeliest);
    let mut best = candidate(row, &[], tails[0], budget_bits);
    let mut count = 0;
    while count < likeliest.len() {
        count = (count + 1 + count / 16).min(likeliest.len());
        let next = candidate(row, &likeliest[..count], tails[count], budget_bits);
        let Some(next) = next else { break };
        let is_better = |best: &Selection| match (next.is_enough(), best.is_enough()) {
            (true, true) => next.bits < best.bits,
            (true, false) => true,
            (false, was) => !was && next.variance < best.variance,
        };
        if best.as_ref().is_none_or(is_better) {
            best = Some(next);
        }
    }
    let nothing = || Selection {
        exact: Vec::new(),
        tail: row.sum,
        draws: 0,
        variance: f64::INFINITY,
        bits: FIXED_BITS,
    };
    best.unwrap_or_else(nothing)
}

impl Selection {
    /// Whether more draws would be of no use.
    fn is_enough(&self) -> bool {
        self.variance <= ENOUGH * ENOUGH
    }
}

/// What all but the first `n` of `likeliest` weigh, for each `n`; added up from the smallest on.
fn tails(row: &Probabilities, likeliest: &[u32]) -> Vec<f64> {
    let mut ascending = likeliest.to_vec();
    ascending.sort_unstable();
    let mut tails = vec![row.sum_without(&ascending); likeliest.len() + 1];
    for (n, id) in likeliest.iter().enumerate().rev() {
        tails[n] = tails[n + 1] + row.weight(*id);
    }
    tails
}

/// These tokens, and as many draws as are enough or as there is room for; `None` where they have no room.
fn candidate(
    row: &Probabilities,
    likeliest: &[u32],
    tail: f64,
    budget_bits: usize,
) -> Option<Selection> {
    let mut exact = likeliest.to_vec();
    exact.sort_unstable();
    let bits = FIXED_BITS + exact_bits(row, &exact);
    let room = budget_bits.checked_sub(bits)?;
    if tail <= 0.0 {
        return Some(Selection { exact, tail: 0.0, draws: 0, variance: 0.0, bits });
    }
    let tail_squared = (tail / row.sum).powi(2);
    let enough = (tail_squared / ENOUGH.powi(2)).ceil().max(1.0) as usize;
    let draws = draws_in(room, row.len()).min(enough).min(MOST_TOKENS);
    (draws > 0).then(|| Selection {
        exact,
        tail,
        draws,
        variance: tail_squared / draws as f64,
        bits: bits + drawn_bits(draws, row.len()),
    })
}

/// Bits of the likeliest tokens and their levels.
fn exact_bits(row: &Probabilities, exact: &[u32]) -> usize {
    let weights = exact.iter().map(|id| row.weight(*id));
    let smallest = weights.clone().fold(f64::INFINITY, f64::min);
    let precision = precision(smallest / row.sum);
    let levels = weights.map(|w| exp_golomb_bits(level(w / smallest, precision), precision));
    best_rice(gaps(exact), ID_ORDERS).1 + levels.sum::<usize>()
}

/// The most that so many drawn tokens need, their distances and shares. Not what they do need: the number of draws must
/// not hang on which tokens are drawn, or those whose code is short would be preferred.
fn drawn_bits(draws: usize, vocab_size: usize) -> usize {
    // The distances add up to a token at most.
    let distances = |order: u32| draws * (1 + order as usize) + (vocab_size >> order);
    let least = (0..ID_ORDERS).map(distances).min().unwrap_or_default();
    least + draws * SHARE_BITS as usize
}

/// The most draws that have room.
fn draws_in(room: usize, vocab_size: usize) -> usize {
    let (mut fits, mut too_many) = (0, MOST_TOKENS + 1);
    while fits + 1 < too_many {
        let middle = usize::midpoint(fits, too_many);
        match drawn_bits(middle, vocab_size) <= room {
            true => fits = middle,
            false => too_many = middle,
        }
    }
    fits
}

/// How far each of ascending numbers is from the one before, the first from 0.
pub(super) fn gaps(ids: &[u32]) -> impl Iterator<Item = u64> + Clone {
    let before = std::iter::once(0).chain(ids.iter().copied());
    ids.iter().zip(before).map(|(id, before)| u64::from(id - before))
}
