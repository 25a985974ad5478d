//! `EnergyShares`: how much of what a norm is given lies in each channel.
//!
//! Shapes: `T` rows, `D` hidden_size.

use super::StudentError;
use super::column_sums::check_rows;

/// Sums up the share of each channel in the square of the rows that an RMSNorm is given.
///
/// ```text
/// s[c] = E_t[ x[t, c]^2 / |x[t]|^2 ]      (a row of zeros is passed over)
/// ```
/// A norm divides by the mean square over all channels. Without some of them the mean is another, by
/// `sum(s[kept]) D / D'`; scaled by the root of it, the norm gives the kept channels what it gave them before.
#[derive(Clone, Debug, Default)]
pub struct EnergyShares {
    rows: u64,
    shares: Vec<f64>,
}

impl EnergyShares {
    /// Takes in `x: [T, width]`, row-major, of `name`.
    ///
    /// # Errors
    /// [`StudentError::Width`], [`StudentError::NotFinite`]; nothing is taken in then.
    pub fn add(&mut self, name: &str, x: &[f32], width: usize) -> Result<(), StudentError> {
        check_rows(name, x, width)?;
        if !self.shares.is_empty() && self.shares.len() != width {
            let (name, numbers, width) = (name.to_owned(), x.len(), self.shares.len());
            return Err(StudentError::Width { name, numbers, width });
        }
        self.shares.resize(width, 0.0);
        for row in x.chunks_exact(width) {
            let square = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            if square > 0.0 {
                for (share, &x) in self.shares.iter_mut().zip(row) {
                    *share += f64::from(x) * f64::from(x) / square;
                }
                self.rows += 1;
            }
        }
        Ok(())
    }

    /// `s: [D]`; `None` where no row was seen.
    pub fn shares(&self) -> Option<Vec<f64>> {
        (self.rows > 0).then(|| self.shares.iter().map(|sum| sum / self.rows as f64).collect())
    }
}
