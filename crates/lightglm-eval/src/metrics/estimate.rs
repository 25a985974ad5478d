//! `Metric`: a number with its confidence interval.

use serde::{Deserialize, Serialize};

use crate::seeded::Seeded;
use crate::statistics::{Z_95, quantile};

/// How an [`Interval`] was computed. All are 95 % intervals with questions taken as independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum IntervalMethod {
    /// Wilson's score interval of a share, for scores that are all 0 or 1.
    ///
    /// Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    /// JASA 22 (1927).
    Wilson,
    /// Percentiles of the means of resampled questions.
    ///
    /// Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13.
    Bootstrap {
        /// Resamples drawn.
        resamples: usize,
        /// Decides them.
        seed: u64,
    },
    /// `estimate -+ 1.96 standard errors`.
    Normal,
}

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How it was computed.
    #[serde(flatten)]
    pub method: IntervalMethod,
}

impl Interval {
    /// Wilson's interval of the share `right` of `n` questions, in percent; all of `[0, 100]` where
    /// `n` is 0.
    ///
    /// ```text
    /// (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    /// ```
    pub fn wilson(right: usize, n: usize) -> Self {
        let [low, high] = wilson(right, n);
        Self { low, high, method: IntervalMethod::Wilson }
    }
}

/// The value of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// How many of something.
    Count(usize),
    /// A measurement; percentages are in `[0, 100]`.
    Number(f64),
}

/// A named number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The official scorer's name where there is one (`HasAns_f1`).
    pub name: String,
    /// The value.
    pub value: MetricValue,
    /// Where it stands with 95 % confidence, for what is an estimate.
    pub interval: Option<Interval>,
}

impl Metric {
    /// A count, which has no error.
    pub fn count(name: impl Into<String>, count: usize) -> Self {
        Self { name: name.into(), value: MetricValue::Count(count), interval: None }
    }

    /// A number without an interval.
    pub fn number(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value: MetricValue::Number(value), interval: None }
    }

    /// A number with the interval `[low, high]`.
    pub fn within(
        name: impl Into<String>,
        value: f64,
        [low, high]: [f64; 2],
        method: IntervalMethod,
    ) -> Self {
        let interval = Some(Interval { low, high, method });
        Self { name: name.into(), value: MetricValue::Number(value), interval }
    }
}

/// How intervals of means are estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimates {
    /// Resamples of a bootstrap, at least 1 (0 counts as 1).
    pub resamples: usize,
    /// Decides the resamples.
    pub seed: u64,
}

impl Default for Estimates {
    /// 1000 resamples, seed 0.
    fn default() -> Self {
        Self { resamples: 1000, seed: 0 }
    }
}

impl Estimates {
    /// `100 * mean` of `scores`, each in `[0, 1]` and at least one: Wilson's interval where all are
    /// 0 or 1, a bootstrap otherwise.
    pub fn percentage(&self, name: impl Into<String>, scores: &[f64]) -> Metric {
        let value = 100.0 * scores.iter().sum::<f64>() / scores.len() as f64;
        if scores.iter().all(|&score| score == 0.0 || score == 1.0) {
            let right = scores.iter().filter(|&&score| score == 1.0).count();
            let interval = Interval::wilson(right, scores.len());
            return Metric { interval: Some(interval), ..Metric::number(name, value) };
        }
        Metric { interval: Some(self.bootstrap(scores)), ..Metric::number(name, value) }
    }

    /// The 2.5 % and 97.5 % percentiles of `100 * mean` of `scores` over resamples of them.
    ///
    /// # Panics
    /// Where there are no scores.
    pub fn bootstrap(&self, scores: &[f64]) -> Interval {
        assert!(!scores.is_empty(), "an interval of no scores");
        let resamples = self.resamples.max(1);
        let mut random = Seeded::new(self.seed);
        let n = scores.len();
        let mut mean = || (0..n).map(|_| scores[random.below(n)]).sum::<f64>() / n as f64 * 100.0;
        let mut means: Vec<f64> = (0..resamples).map(|_| mean()).collect();
        means.sort_unstable_by(f64::total_cmp);
        let method = IntervalMethod::Bootstrap { resamples, seed: self.seed };
        Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975), method }
    }
}

fn wilson(right: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 100.0];
    }
    let (p, n, z2) = (right as f64 / n as f64, n as f64, Z_95 * Z_95);
    let middle = p + z2 / (2.0 * n);
    let margin = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let end = |x: f64| (100.0 * x / (1.0 + z2 / n)).clamp(0.0, 100.0);
    [end(middle - margin), end(middle + margin)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_of_known_shares() {
        // statsmodels 0.15.0: proportion_confint(10, 20, method="wilson"), (0, 10), (81, 263).
        let close = |a: [f64; 2], b: [f64; 2]| {
            assert!((a[0] - b[0]).abs() < 5e-4 && (a[1] - b[1]).abs() < 5e-4, "{a:?} {b:?}");
        };
        close(wilson(10, 20), [29.9298, 70.0702]);
        close(wilson(0, 10), [0.0, 27.7533]);
        close(wilson(81, 263), [25.5289, 36.6210]);
        close(wilson(0, 0), [0.0, 100.0]);
    }

    #[test]
    fn a_bootstrap_is_near_the_normal_interval_and_repeats() {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(i % 5) / 4.0).collect();
        let estimates = Estimates { resamples: 2000, seed: 3 };
        let metric = estimates.percentage("f1", &scores);
        let interval = metric.interval.expect("an estimate");
        // The standard deviation of {0, 1/4, .. 1} is sqrt(1/8).
        let margin = 1.96 * (0.125_f64 / 400.0).sqrt() * 100.0;
        assert!((interval.low - (50.0 - margin)).abs() < 0.4, "{interval:?}");
        assert!((interval.high - (50.0 + margin)).abs() < 0.4, "{interval:?}");
        assert_eq!(estimates.percentage("f1", &scores), metric);
        assert_ne!(Estimates { seed: 4, ..estimates }.percentage("f1", &scores), metric);
    }
}
