//! `BlockInfluenceSums`: how much each block turns the residual stream.
//!
//! Shapes: `T` rows, `D` hidden_size.

use super::StudentError;
use super::column_sums::check_rows;

/// Sums up, for one block, how far the rows that leave it point away from those that enter it.
///
/// ```text
/// BI = 1 - E_t[ x_in[t] . x_out[t] / (|x_in[t]| |x_out[t]|) ]
/// ```
/// A block that hands on what it was given has 0. A row of zeros has no direction: its cosine is 1 where both
/// rows are zero, else 0.
///
/// Source: Men et al. 2024, "ShortGPT", equation 1.
#[derive(Clone, Debug, Default)]
pub struct BlockInfluenceSums {
    rows: u64,
    cosines: f64,
}

impl BlockInfluenceSums {
    /// Takes in `x_in: [T, D]` and `x_out: [T, D]`, row-major, before and after the block `name`.
    ///
    /// # Errors
    /// [`StudentError::Width`], [`StudentError::NotFinite`]; nothing is taken in then.
    pub fn add(
        &mut self,
        name: &str,
        x_in: &[f32],
        x_out: &[f32],
        width: usize,
    ) -> Result<(), StudentError> {
        check_rows(name, x_in, width)?;
        check_rows(name, x_out, width)?;
        if x_in.len() != x_out.len() {
            let (name, numbers, width) = (name.to_owned(), x_out.len(), x_in.len());
            return Err(StudentError::Width { name, numbers, width });
        }
        for (x_in, x_out) in x_in.chunks_exact(width).zip(x_out.chunks_exact(width)) {
            self.cosines += cosine(x_in, x_out);
            self.rows += 1;
        }
        Ok(())
    }

    /// The block influence; `None` where no row was seen.
    pub fn influence(&self) -> Option<f64> {
        (self.rows > 0).then(|| 1.0 - self.cosines / self.rows as f64)
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut a_square, mut b_square) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        product += a * b;
        a_square += a * a;
        b_square += b * b;
    }
    match (a_square > 0.0, b_square > 0.0) {
        // One root of the product, so that equal rows have 1 and nothing beside it.
        (true, true) => product / (a_square * b_square).sqrt(),
        (false, false) => 1.0,
        _ => 0.0,
    }
}
