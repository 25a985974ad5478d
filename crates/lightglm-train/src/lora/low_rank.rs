//! `LowRank`: the two matrices of an adapter in the host's memory. Shapes: `N` out_features, `K` in_features,
//! `r` rank.

/// The two matrices of an adapter, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// `r`.
    pub rank: usize,
    /// What the update is multiplied with.
    pub scale: f64,
    /// The projection's `[N, K]`.
    pub shape: [usize; 2],
    /// `[r, K]`.
    pub lora_a: Vec<f32>,
    /// `[N, r]`.
    pub lora_b: Vec<f32>,
}

impl LowRank {
    /// Adds row `row` of `scale B A` to `weight: [K]`, in f32: ranks are summed before the scale is applied,
    /// as PEFT does.
    ///
    /// # Panics
    /// Where the matrix has no such row, or `weight` another length.
    pub fn add_row(&self, row: usize, weight: &mut [f32]) {
        let [n, k] = self.shape;
        assert!(row < n && weight.len() == k, "row {row} of {k} columns in {n}x{k}");
        let mut update = vec![0.0f32; k];
        let factors = &self.lora_b[row * self.rank..(row + 1) * self.rank];
        for (&factor, a) in factors.iter().zip(self.lora_a.chunks_exact(k.max(1))) {
            for (update, a) in update.iter_mut().zip(a) {
                *update += factor * a;
            }
        }
        let scale = self.scale as f32;
        for (weight, update) in weight.iter_mut().zip(&update) {
            *weight += update * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LowRank;

    #[test]
    fn a_row_gets_its_update() {
        let low = LowRank {
            rank: 2,
            scale: 0.5,
            shape: [3, 2],
            lora_a: vec![1.0, 2.0, 3.0, 4.0],
            lora_b: vec![1.0, 0.0, 0.0, 1.0, 2.0, -1.0],
        };
        let mut row = [10.0, 20.0];
        low.add_row(2, &mut row);
        assert_eq!(row, [10.0 - 0.5, 20.0]);
        low.add_row(1, &mut row);
        assert_eq!(row, [11.0, 22.0]);
    }
}
