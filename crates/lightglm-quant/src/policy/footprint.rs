//! `footprint`: what a policy makes of a model's size.

use crate::{Policy, QuantError, Scheme};

/// Weights of matrices, and the bytes that hold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Weights, those that fill up panels not counted.
    pub weights: u64,
    /// Bytes of codes, scales and minimums, or of the dense elements.
    pub bytes: u64,
}

impl Footprint {
    /// Of one matrix of `shape` (`[N, K]`) called `name` in errors; `dense_bits` is what an element
    /// takes where it stays dense.
    ///
    /// # Errors
    /// [`QuantError::Layer`] where the scheme does not fit.
    pub fn of(
        name: &str,
        shape: [usize; 2],
        scheme: Scheme,
        dense_bits: u64,
    ) -> Result<Self, QuantError> {
        let weights = shape[0] as u64 * shape[1] as u64;
        let bytes = match scheme {
            Scheme::Dense => weights * dense_bits / 8,
            Scheme::Quantized(scheme) => scheme
                .bytes(shape)
                .map_err(|source| QuantError::Layer { name: name.to_owned(), source })?,
        };
        Ok(Self { weights, bytes })
    }

    /// Bits a weight, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.weights.max(1) as f64
    }
}

/// What `policy` makes of `matrices`: names without `.weight`, and shapes.
///
/// # Errors
/// [`QuantError::Layer`] naming the first matrix that its scheme does not fit.
pub fn footprint<'a>(
    policy: &Policy,
    matrices: impl IntoIterator<Item = (&'a str, [usize; 2])>,
    dense_bits: u64,
) -> Result<Footprint, QuantError> {
    let mut total = Footprint::default();
    for (name, shape) in matrices {
        let one = Footprint::of(name, shape, policy.scheme(name), dense_bits)?;
        total.weights += one.weights;
        total.bytes += one.bytes;
    }
    Ok(total)
}
