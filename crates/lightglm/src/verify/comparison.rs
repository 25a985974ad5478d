//! `Comparison`: what became of one expected tensor.

use std::fmt;

/// f32 sums in another order than the reference's stay well below this.
const TOLERANCE: f32 = 2e-4;

/// Of the norm, where products are TF32: each rounds its inputs to within 4.9e-4, in every layer, forward
/// and backward. On an H100 the worst of the fixtures' tensors, a gradient, was off by 4.8e-3.
const TF32_TOLERANCE: f64 = 1e-2;

/// What became of one expected tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The tensor's name.
    pub name: String,
    /// How far off it is.
    pub outcome: Outcome,
}

/// How far a tensor is off.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Values, compared by the largest absolute difference.
    Values {
        /// It; NaN counts as infinite.
        worst: f32,
    },
    /// Values of a device that multiplies in TF32, compared by the norm of the difference.
    Norm {
        /// The largest absolute difference.
        worst: f32,
        /// The norm of the difference over that of what was expected.
        relative: f64,
    },
    /// There are more or fewer values than expected.
    Length {
        /// Values computed.
        actual: usize,
        /// Values expected.
        expected: usize,
    },
    /// Token ids, which must be equal.
    Tokens {
        /// How many are.
        equal: usize,
        /// Tokens expected.
        expected: usize,
        /// Tokens computed.
        actual: usize,
    },
    /// Nobody knows what this tensor is.
    NotCompared,
}

impl Outcome {
    /// Whether it agrees with the reference; `None` where it was not compared.
    pub fn passed(&self) -> Option<bool> {
        match *self {
            // So that a NaN passes nowhere.
            Self::Values { worst } => Some(worst <= TOLERANCE),
            Self::Norm { relative, .. } => Some(relative <= TF32_TOLERANCE),
            Self::Length { .. } => Some(false),
            Self::Tokens { equal, expected, actual } => {
                Some(equal == expected && actual == expected)
            }
            Self::NotCompared => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values { worst } => write!(f, "max |difference| {worst:.2e}"),
            Self::Norm { worst, relative } => {
                write!(f, "max |difference| {worst:.2e}, of the norm {relative:.2e}")
            }
            Self::Length { actual, expected } => {
                write!(f, "{actual} values where {expected} are expected")
            }
            Self::Tokens { equal, expected, .. } => write!(f, "{equal} of {expected} tokens agree"),
            Self::NotCompared => f.write_str("not understood, not compared"),
        }
    }
}

/// Compares, and tells.
pub(super) struct Comparisons<'a> {
    /// Whether products are of TF32.
    pub(super) tf32: bool,
    /// Told of every comparison.
    pub(super) tell: &'a mut dyn FnMut(&Comparison),
}

impl Comparisons<'_> {
    fn told(&mut self, name: &str, outcome: Outcome) {
        (self.tell)(&Comparison { name: name.to_owned(), outcome });
    }

    /// The largest absolute difference of two equally long lists.
    pub(super) fn values(&mut self, name: &str, actual: &[f32], expected: &[f32]) {
        if actual.len() != expected.len() {
            let (actual, expected) = (actual.len(), expected.len());
            return self.told(name, Outcome::Length { actual, expected });
        }
        let differences = || actual.iter().zip(expected).map(|(a, e)| a - e);
        let worst = differences().map(f32::abs);
        let worst = worst.fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
        if !self.tf32 {
            return self.told(name, Outcome::Values { worst });
        }
        let norm = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
        };
        let whole = norm(&mut expected.iter().copied()).max(f64::MIN_POSITIVE);
        self.told(name, Outcome::Norm { worst, relative: norm(&mut differences()) / whole });
    }

    /// Token ids.
    pub(super) fn tokens(&mut self, name: &str, actual: &[i64], expected: &[i64]) {
        let equal = actual.iter().zip(expected).filter(|(a, e)| a == e).count();
        let (actual, expected) = (actual.len(), expected.len());
        self.told(name, Outcome::Tokens { equal, expected, actual });
    }

    /// A tensor that nobody knows.
    pub(super) fn not_compared(&mut self, name: &str) {
        self.told(name, Outcome::NotCompared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(tf32: bool, actual: &[f32], expected: &[f32]) -> Outcome {
        let mut outcomes = Vec::new();
        let tell = &mut |comparison: &Comparison| outcomes.push(comparison.outcome);
        Comparisons { tf32, tell }.values("x", actual, expected);
        outcomes.remove(0)
    }

    #[test]
    fn what_is_off_too_far_or_no_number_does_not_pass() {
        assert_eq!(outcome(false, &[1.0, 2.0], &[1.0, 2.0001]).passed(), Some(true));
        assert_eq!(outcome(false, &[1.0, 2.0], &[1.0, 2.001]).passed(), Some(false));
        assert_eq!(outcome(false, &[f32::NAN], &[1.0]).passed(), Some(false));
        assert_eq!(outcome(true, &[f32::NAN], &[1.0]).passed(), Some(false));
        assert_eq!(outcome(true, &[1.0, 2.0], &[1.0, 2.001]).passed(), Some(true));
        assert_eq!(outcome(true, &[1.0, 2.0], &[1.0, 2.1]).passed(), Some(false));
        assert_eq!(outcome(false, &[1.0], &[]), Outcome::Length { actual: 1, expected: 0 });
        let more = Outcome::Tokens { equal: 2, expected: 2, actual: 3 };
        assert_eq!(more.passed(), Some(false));
    }
}
