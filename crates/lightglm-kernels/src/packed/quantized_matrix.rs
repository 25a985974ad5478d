//! `QuantizedMatrix`: codes and scales in plain row-major order, before they are packed.

use half::f16;

use super::format::check_group;
use super::{PackingError, ScaleDtype, WeightBits};

/// A quantized matrix in plain order: what quantizers make, files of other programs hold, and tests
/// compare.
///
/// ```text
/// w[n, k] = (codes[n, k] - offset) * scales[n, k / group_size]                    symmetric
/// w[n, k] = codes[n, k] * scales[n, k / group_size] + minimums[n, k / group_size]  otherwise
/// ```
/// with the offset 8 (4 bits) or 128 (8 bits).
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// `[N, K]`: out_features, in_features.
    pub shape: [usize; 2],
    /// Bits of a code.
    pub bits: WeightBits,
    /// Columns that share a scale: a multiple of 8, or at least `K`.
    pub group_size: usize,
    /// `[N, K]`, one byte each.
    pub codes: Vec<u8>,
    /// `[N, G]`, `G = ceil(K / group_size)`.
    pub scales: Vec<f32>,
    /// `[N, G]`, or `None` for a symmetric matrix.
    pub minimums: Option<Vec<f32>>,
}

impl QuantizedMatrix {
    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`PackingError`].
    pub fn check(&self) -> Result<(), PackingError> {
        let [n, k] = self.shape;
        check_group(self.group_size, k)?;
        let groups = self.groups();
        let length = |part, expected, actual| match expected == actual {
            true => Ok(()),
            false => Err(PackingError::Length { part, expected, actual }),
        };
        length("codes", n * k, self.codes.len())?;
        let largest = self.bits.largest();
        // The maximum of a chunk is found in vectors, a position one by one.
        let wrong = |codes: &[u8]| codes.iter().fold(0, |most, &code| most.max(code)) > largest;
        if let Some(chunk) = self.codes.chunks(4096).position(wrong) {
            let first = chunk * 4096;
            let inside = self.codes[first..].iter().position(|&code| code > largest);
            let at = first + inside.unwrap_or(0);
            return Err(PackingError::Code { code: self.codes[at], row: at / k, largest });
        }
        let parts = [("scales", Some(&self.scales)), ("minimums", self.minimums.as_ref())];
        for (part, values) in parts {
            let Some(values) = values else { continue };
            length(part, n * groups, values.len())?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(PackingError::NotFinite { part, row: at / groups });
            }
        }
        Ok(())
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.shape[1].div_ceil(self.group_size.max(1))
    }

    /// Row `n` as f32: `out: [K]`.
    ///
    /// # Panics
    /// Where there is no such row or `out` has another length.
    pub fn dequantize_row(&self, n: usize, out: &mut [f32]) {
        let [_, k] = self.shape;
        let groups = self.groups();
        let offset = f32::from(self.bits.offset());
        let codes = &self.codes[n * k..(n + 1) * k];
        assert_eq!(out.len(), k, "a row has K elements");
        for (i, (out, &code)) in out.iter_mut().zip(codes).enumerate() {
            let at = n * groups + i / self.group_size;
            *out = match &self.minimums {
                None => (f32::from(code) - offset) * self.scales[at],
                Some(minimums) => f32::from(code) * self.scales[at] + minimums[at],
            };
        }
    }

    /// All rows as f32: `[N, K]`. For references and tests; no kernel does this.
    pub fn dequantize(&self) -> Vec<f32> {
        let [n, k] = self.shape;
        let mut out = vec![0.0; n * k];
        for (row, out) in out.chunks_exact_mut(k.max(1)).enumerate() {
            self.dequantize_row(row, out);
        }
        out
    }

    /// Scales and minimums rounded to `dtype`, as a packed matrix of that precision holds them.
    pub fn round_scales(&mut self, dtype: ScaleDtype) {
        if dtype == ScaleDtype::F16 {
            let values = self.scales.iter_mut().chain(self.minimums.iter_mut().flatten());
            values.for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
    }
}
