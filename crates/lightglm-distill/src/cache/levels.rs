//! Probabilities as whole numbers.
//!
//! The likeliest tokens':
//!
//! ```text
//! level = round((sqrt(p / smallest) - 1) 2^precision)
//! p     = (1 - tail) s^2 / sum of all s^2,  s = 1 + level / 2^precision
//! ```
//!
//! Steps of the square root make the expected error of each probability as large as its root, so a likely token is
//! stored to more digits than an unlikely one, as a forward divergence needs it.
//!
//! The drawn tokens', as shares of the tail: `share_level = round(-16 ln share) - least level`, and a last level for
//! shares that are less than `e^-16` of the largest, which count as nothing.

/// What rounding to levels may add to a row's divergence, as a standard deviation for a student that is 1 nat off.
const ROUNDING: f64 = 2e-4;

/// The orders that a row's precision may have.
pub(super) const PRECISIONS: std::ops::RangeInclusive<u32> = 4..=14;

/// The least precision that keeps rounding below [`ROUNDING`] where the smallest probability is this.
pub(super) fn precision(smallest: f64) -> u32 {
    // The sum over tokens of (p relative error)^2 is at most smallest / 3 / 4^precision.
    let steps = (smallest / 3.0).sqrt() / ROUNDING;
    let least =
        steps.log2().ceil().clamp(f64::from(*PRECISIONS.start()), f64::from(*PRECISIONS.end()));
    least as u32
}

/// The level of a token that is `ratio` times as likely as the row's smallest.
pub(super) fn level(ratio: f64, precision: u32) -> u64 {
    ((ratio.sqrt() - 1.0).max(0.0) * f64::from(1_u32 << precision)).round() as u64
}

/// The logarithms of the probabilities that these levels mean beside a tail.
pub(super) fn log_probs(levels: &[u64], precision: u32, log_tail: f32) -> Vec<f32> {
    let unit = f64::from(1_u32 << precision);
    let roots = levels.iter().map(|level| 1.0 + *level as f64 / unit);
    let sum: f64 = roots.clone().map(|root| root * root).sum();
    let log_scale = (-f64::from(log_tail).exp_m1()).ln() - sum.ln();
    roots.map(|root| (2.0 * root.ln() + log_scale) as f32).collect()
}

/// Levels of a share to a nat.
const SHARE_STEPS: f64 = 16.0;

/// Bits of a share's level above the least, whatever it is: how many draws have room must not hang on what is drawn.
pub(super) const SHARE_BITS: u32 = 8;

/// The level of nothing.
const NO_SHARE: u64 = (1 << SHARE_BITS) - 1;

/// Bits of the least level.
pub(super) const LEAST_BITS: u32 = 12;

/// The least level of a tail, by the logarithm of its largest share.
pub(super) fn least_level(log_share: f64) -> u64 {
    // A cast keeps to the type's range.
    ((-log_share * SHARE_STEPS).floor() as u64).min((1 << LEAST_BITS) - 1)
}

/// The level of a share of the tail, by its logarithm.
pub(super) fn share_level(log_share: f64, least: u64) -> u64 {
    ((-log_share * SHARE_STEPS).round() as u64).saturating_sub(least).min(NO_SHARE)
}

/// The logarithm of the share that a level means.
pub(super) fn log_share(level: u64, least: u64) -> f64 {
    match level >= NO_SHARE {
        true => f64::NEG_INFINITY,
        false => -((least + level) as f64) / SHARE_STEPS,
    }
}
