//! `ErrorCurve`: what sparsity costs one part of a model, measured at a few points.

use crate::SparsityError;

/// The error that some projections with one input cause at each sparsity, with straight lines
/// between the points that were measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorCurve {
    /// By sparsity: from `(0, 0)` to one at 1.
    points: Vec<(f32, f64)>,
}

impl ErrorCurve {
    /// Through `points` of sparsity and error, in rising order of sparsity, the last one at 1; a
    /// sparsity of 0 costs nothing.
    ///
    /// # Errors
    /// [`SparsityError::Sparsity`] for a point that is not above the one before it, and where the
    /// last one is not at 1; [`SparsityError::BlockError`] for an error that is not a finite number
    /// from 0 on.
    pub fn new(points: impl IntoIterator<Item = (f32, f64)>) -> Result<Self, SparsityError> {
        let mut all = vec![(0.0, 0.0)];
        let mut last = 0.0;
        for (sparsity, error) in points {
            if !(sparsity > last && sparsity <= 1.0) {
                return Err(SparsityError::Sparsity(sparsity.into()));
            }
            if !error.is_finite() || error < 0.0 {
                return Err(SparsityError::BlockError { sparsity, error });
            }
            last = sparsity;
            all.push((sparsity, error));
        }
        if last == 1.0 {
            Ok(Self { points: all })
        } else {
            Err(SparsityError::Sparsity(last.into()))
        }
    }

    /// The error at `sparsity`, which is taken as 0 below 0 and as 1 above 1.
    pub fn at(&self, sparsity: f32) -> f64 {
        let sparsity = sparsity.clamp(0.0, 1.0);
        let after = self.points.partition_point(|point| point.0 < sparsity);
        let (s1, e1) = self.points[after];
        let Some(&(s0, e0)) = after.checked_sub(1).map(|before| &self.points[before]) else {
            return e1;
        };
        e0 + (e1 - e0) * f64::from((sparsity - s0) / (s1 - s0))
    }
}
