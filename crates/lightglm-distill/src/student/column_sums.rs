//! `ColumnSums`: how large each column of an activation is over a text.
//!
//! Shapes: `T` rows, `N` columns.

use super::StudentError;

/// What is taken of a unit's activations over the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// `E_t |x[t]|`.
    MeanMagnitude,
    /// `sqrt(E_t x[t]^2)`, the L2 norm that does not grow with the text.
    #[default]
    RootMeanSquare,
}

/// Sums up the columns of an activation `x: [T, N]`.
///
/// Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation",
/// section 2.2, with one aggregation over rows and sequences.
#[derive(Clone, Debug, Default)]
pub struct ColumnSums {
    rows: u64,
    magnitudes: Vec<f64>,
    squares: Vec<f64>,
}

impl ColumnSums {
    /// Takes in `x: [T, width]`, row-major, of `name`.
    ///
    /// # Errors
    /// [`StudentError::Width`], [`StudentError::NotFinite`]; nothing is taken in then.
    pub fn add(&mut self, name: &str, x: &[f32], width: usize) -> Result<(), StudentError> {
        check_rows(name, x, width)?;
        if self.rows > 0 && self.magnitudes.len() != width {
            let (name, numbers, width) = (name.to_owned(), x.len(), self.magnitudes.len());
            return Err(StudentError::Width { name, numbers, width });
        }
        self.magnitudes.resize(width, 0.0);
        self.squares.resize(width, 0.0);
        for row in x.chunks_exact(width) {
            for ((magnitude, square), &x) in
                self.magnitudes.iter_mut().zip(&mut self.squares).zip(row)
            {
                let x = f64::from(x);
                *magnitude += x.abs();
                *square += x * x;
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// `[N]`: each column by `measure`; `None` where no row was seen.
    pub fn columns(&self, measure: Measure) -> Option<Vec<f64>> {
        let rows = (self.rows > 0).then_some(self.rows as f64)?;
        Some(match measure {
            Measure::MeanMagnitude => self.magnitudes.iter().map(|sum| sum / rows).collect(),
            Measure::RootMeanSquare => self.squares.iter().map(|sum| (sum / rows).sqrt()).collect(),
        })
    }

    /// `[N / size]`: the L2 norm of each `size` neighbouring columns, such as a head,
    /// `sqrt(E_t |x[t, group]|^2)`; `None` where no row was seen.
    pub fn groups(&self, size: usize) -> Option<Vec<f64>> {
        let rows = (self.rows > 0).then_some(self.rows as f64)?;
        let groups = self.squares.chunks(size.max(1));
        Some(groups.map(|group| (group.iter().sum::<f64>() / rows).sqrt()).collect())
    }
}

/// Checks that `x` is rows of `width` finite numbers.
pub(super) fn check_rows(name: &str, x: &[f32], width: usize) -> Result<(), StudentError> {
    if width == 0 || !x.len().is_multiple_of(width) {
        return Err(StudentError::Width { name: name.to_owned(), numbers: x.len(), width });
    }
    match x.iter().find(|x| !x.is_finite()) {
        Some(&value) => Err(StudentError::NotFinite { name: name.to_owned(), value }),
        None => Ok(()),
    }
}
