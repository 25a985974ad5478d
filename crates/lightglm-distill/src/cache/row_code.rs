//! A row's bytes: the likeliest tokens with their probabilities, the mass of all others, and tokens drawn from these.
//!
//! ```text
//! 12  how many likeliest tokens          12  how many drawn ones
//!  5  order of the former's distances     5  order of the latter's
//!  4  precision of the probabilities     32  logarithm of the others' mass, f32
//! and where tokens are drawn             12  the least level of their shares
//! the likeliest: distances of their ids (Rice), then levels (exponential Golomb)
//! the drawn: distances of their ids (Rice), then levels of their shares above the least (8 each)
//! ```
//!
//! What a drawn token stands for follows from its share and the numbers of tokens.

use lightglm_core::max_of;

use super::bits::{BitReader, BitWriter, best_rice};
use super::levels::{
    LEAST_BITS, PRECISIONS, SHARE_BITS, least_level, level, log_probs, log_share, precision,
    share_level,
};
use super::probabilities::{Probabilities, draw_weight};
use super::selection::{Selection, gaps, select};
use crate::mixing::mixed;
use crate::tail_sample::TailSample;
use crate::teacher_rows::TopRow;

const COUNT_BITS: u32 = 12;
const ORDER_BITS: u32 = 5;
const PRECISION_BITS: u32 = 4;

/// Bits of a row without tokens.
pub(super) const FIXED_BITS: usize =
    (2 * COUNT_BITS + 2 * ORDER_BITS + PRECISION_BITS + 32 + LEAST_BITS) as usize;

/// Likeliest tokens, or drawn ones.
pub(super) const MOST_TOKENS: usize = (1 << COUNT_BITS) - 1;

/// Orders that distances may have.
pub(super) const ID_ORDERS: u32 = 1 << ORDER_BITS;

/// The bytes of a row, at most `budget`; its draws are those of `seed`.
pub(super) fn encode(logits: &[f32], temperature: f64, budget: usize, seed: u64) -> Vec<u8> {
    let row = Probabilities::of(logits, temperature);
    let selection = select(&row, budget * 8);
    let start = (mixed(seed, 0) >> 11) as f64 / (1_u64 << 53) as f64;
    let tail = row.tail(&selection.exact, selection.tail);
    let largest = tail.as_ref().map_or(1.0, |tail| tail.largest);
    let mut drawn = tail.map_or_else(Vec::new, |tail| tail.draw(selection.draws, start));
    // Rounding may give one more.
    drawn.truncate(selection.draws);
    // From the logit: a weight may be too small for a number.
    let top = f64::from(max_of(logits));
    let log_share =
        |id: &u32| (f64::from(logits[*id as usize]) - top) / temperature - selection.tail.ln();
    let least = least_level(largest.ln());
    let shares = drawn.iter().map(|id| share_level(log_share(id), least));
    write(&row, &selection, &drawn, (least, shares)).into_bytes()
}

fn write(
    row: &Probabilities,
    Selection { exact, tail, .. }: &Selection,
    drawn: &[u32],
    (least_share, shares): (u64, impl Iterator<Item = u64>),
) -> BitWriter {
    let weights = exact.iter().map(|id| row.weight(*id));
    let smallest = weights.clone().fold(f64::INFINITY, f64::min);
    let precision = match exact.is_empty() {
        true => *PRECISIONS.start(),
        false => precision(smallest / row.sum),
    };
    let (exact_order, _) = best_rice(gaps(exact), ID_ORDERS);
    let (drawn_order, _) = best_rice(gaps(drawn), ID_ORDERS);
    let mut bits = BitWriter::default();
    bits.bits(exact.len() as u64, COUNT_BITS);
    bits.bits(drawn.len() as u64, COUNT_BITS);
    bits.bits(u64::from(exact_order), ORDER_BITS);
    bits.bits(u64::from(drawn_order), ORDER_BITS);
    bits.bits(u64::from(precision), PRECISION_BITS);
    let log_tail = (tail / row.sum).ln() as f32;
    bits.bits(u64::from(log_tail.to_bits()), 32);
    if !drawn.is_empty() {
        bits.bits(least_share, LEAST_BITS);
    }
    gaps(exact).for_each(|gap| bits.rice(gap, exact_order));
    weights.for_each(|weight| bits.exp_golomb(level(weight / smallest, precision), precision));
    gaps(drawn).for_each(|gap| bits.rice(gap, drawn_order));
    shares.for_each(|level| bits.bits(level, SHARE_BITS));
    bits
}

/// The row over `vocab_size` tokens that these bytes are; what is wrong where they are none.
pub(super) fn decode(bytes: &[u8], vocab_size: usize) -> Result<TopRow, String> {
    let mut bits = BitReader::new(bytes);
    let coded = read(&mut bits).ok_or("a row ends before its last token")?;
    if !bits.ends_here() {
        return Err("a row goes on behind its last token".to_owned());
    }
    if !PRECISIONS.contains(&coded.precision) {
        return Err(format!("probabilities of precision {}", coded.precision));
    }
    let others = vocab_size.saturating_sub(coded.exact.len());
    let log_probs = log_probs(&coded.levels, coded.precision, coded.log_tail);
    let row = TopRow::new(coded.exact, log_probs).and_then(|row| row.with_log_tail(coded.log_tail));
    if coded.drawn.is_empty() {
        return row.map_err(|error| error.to_string());
    }
    let draws = coded.drawn.len();
    let log_shares = coded.share_levels.iter().map(|level| log_share(*level, coded.least_share));
    let weights =
        log_shares.clone().map(|share| draw_weight(share.exp(), others, draws) as f32).collect();
    let log_shares = log_shares.map(|share| share as f32).collect();
    let sample = TailSample::new(coded.drawn, log_shares, weights);
    sample.and_then(|sample| row?.with_sample(sample)).map_err(|error| error.to_string())
}

/// What stands in a row's bytes.
struct Coded {
    precision: u32,
    log_tail: f32,
    exact: Vec<u32>,
    levels: Vec<u64>,
    drawn: Vec<u32>,
    least_share: u64,
    share_levels: Vec<u64>,
}

fn read(bits: &mut BitReader<'_>) -> Option<Coded> {
    let exact_count = bits.bits(COUNT_BITS)?;
    let drawn_count = bits.bits(COUNT_BITS)?;
    let exact_order = bits.bits(ORDER_BITS)? as u32;
    let drawn_order = bits.bits(ORDER_BITS)? as u32;
    let precision = bits.bits(PRECISION_BITS)? as u32;
    let log_tail = f32::from_bits(bits.bits(32)? as u32);
    let least_share = match drawn_count {
        0 => 0,
        _ => bits.bits(LEAST_BITS)?,
    };
    let exact = read_ids(bits, exact_count, exact_order)?;
    let levels = (0..exact_count).map(|_| bits.exp_golomb(precision)).collect::<Option<_>>()?;
    let drawn = read_ids(bits, drawn_count, drawn_order)?;
    let share_levels = (0..drawn_count).map(|_| bits.bits(SHARE_BITS)).collect::<Option<_>>()?;
    Some(Coded { precision, log_tail, exact, levels, drawn, least_share, share_levels })
}

fn read_ids(bits: &mut BitReader<'_>, count: u64, order: u32) -> Option<Vec<u32>> {
    let mut id = 0_u32;
    let next = |_| {
        id = id.checked_add(u32::try_from(bits.rice(order)?).ok()?)?;
        Some(id)
    };
    (0..count).map(next).collect()
}
