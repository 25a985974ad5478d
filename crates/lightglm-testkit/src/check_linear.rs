//! The promises of [`Linear`].

use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Linear;

use crate::split_mix::SplitMix;

/// Row counts on both sides of every kernel's tile: a lone row, odd remainders, a whole block.
const ROWS: [usize; 10] = [1, 2, 3, 4, 5, 8, 15, 16, 17, 33];

/// Checks that `linear` gives `[T, N]` from `[T, K]` for many `T`, that each row's bits hang on that
/// row alone, that two calls agree, that nothing but finite numbers comes out, and that
/// `bytes_read` lies between half a bit and eight bytes per weight (plus bias and scales).
///
/// # Panics
/// Where a promise is broken.
pub fn check_linear<B: Backend, L: Linear<B>>(linear: &L, device: &B::Device) {
    let [out_features, in_features] = linear.shape();
    assert!(out_features * in_features > 0, "an empty projection: nothing would be checked");
    let bytes = linear.bytes_read();
    let weights = out_features * in_features;
    assert!(bytes >= weights.div_ceil(16), "{bytes} bytes cannot hold {weights} weights");
    let most = weights * 8 + (out_features + in_features) * 8;
    assert!(bytes <= most, "{bytes} bytes are too many for {weights} weights");

    let most_rows = ROWS[ROWS.len() - 1];
    let mut random = SplitMix::new(0x11ea);
    // Rows of different magnitude: a scale shared by the batch would show.
    let row = |index: usize, random: &mut SplitMix| -> Vec<f32> {
        let magnitude = [1.0, 0.01, 30.0][index % 3];
        (0..in_features).map(|_| random.next_f32() * magnitude).collect()
    };
    let rows: Vec<Vec<f32>> = (0..most_rows).map(|index| row(index, &mut random)).collect();
    let run = |rows: &[Vec<f32>]| -> Vec<f32> {
        let data = TensorData::new(rows.concat(), [rows.len(), in_features]);
        let y = linear.forward(Tensor::<B, 2>::from_data(data, device));
        assert_eq!(y.dims(), [rows.len(), out_features], "wrong shape for {} rows", rows.len());
        let y: Vec<f32> = y.into_data().iter::<f32>().collect();
        assert!(y.iter().all(|value| value.is_finite()), "not finite for {} rows", rows.len());
        y
    };
    let alone: Vec<Vec<f32>> = rows.iter().map(|row| run(std::slice::from_ref(row))).collect();
    let distinct = alone.iter().any(|y| y != &alone[0]);
    assert!(distinct || most_rows == 1, "the output does not depend on the input");
    for count in ROWS {
        // From the front and from the back, so that a row stands at several places of a tile.
        for window in [&rows[..count], &rows[most_rows - count..]] {
            let first = if window.as_ptr() == rows.as_ptr() { 0 } else { most_rows - count };
            let together = run(window);
            for (index, y) in together.chunks_exact(out_features).enumerate() {
                let same = bits(y) == bits(&alone[first + index]);
                assert!(same, "row {index} of {count} has other bits than alone");
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
