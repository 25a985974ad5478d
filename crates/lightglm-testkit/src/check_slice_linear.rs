//! The promises of [`SliceLinear`].

use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::{SliceError, SliceLinear};

use crate::split_mix::SplitMix;

/// Rows of the input.
const ROWS: usize = 3;
/// Of a sum whose terms come in another order, relative to the largest output.
const TOLERANCE: f32 = 1e-5;

/// Checks that chosen outputs of `linear` have the bits they have in the whole, that chosen inputs (where
/// they can be taken apart) give what the whole gives with zeros for the others, that all of them in
/// order are the whole to the bit, and that an index past the end is an error.
///
/// # Panics
/// Where a promise is broken.
pub fn check_slice_linear<B: Backend, L: SliceLinear<B>>(linear: &L, device: &B::Device) {
    let [n, k] = linear.shape();
    assert!(n * k > 0, "an empty projection: nothing would be checked");
    let mut random = SplitMix::new(0x5e1ec7);
    let x: Vec<f32> = (0..ROWS * k).map(|_| random.next_f32()).collect();
    let run = |linear: &L, x: Vec<f32>| -> Vec<f32> {
        let [_, k] = linear.shape();
        let x = Tensor::from_data(TensorData::new(x, [ROWS, k]), device);
        linear.forward(x).into_data().iter::<f32>().collect()
    };
    let whole = run(linear, x.clone());

    let mut choices = |count: usize| {
        let all: Vec<usize> = (0..count).collect();
        let some = all.iter().copied().filter(|_| random.below(2) == 0).collect();
        // Out of order, and one of them twice.
        let odd = vec![count - 1, 0, count / 2, count - 1];
        [all, some, odd, vec![count / 3]]
    };
    for chosen in choices(n).into_iter().filter(|chosen: &Vec<usize>| !chosen.is_empty()) {
        let part = linear.slice_outputs(&chosen).expect("outputs that are there");
        assert_eq!(part.shape(), [chosen.len(), k]);
        let expected: Vec<f32> = (0..ROWS)
            .flat_map(|row| chosen.iter().map(move |&at| (row, at)))
            .map(|(row, at)| whole[row * n + at])
            .collect();
        assert_same_bits(&run(&part, x.clone()), &expected, "outputs");
    }
    for chosen in choices(k).into_iter().filter(|chosen: &Vec<usize>| !chosen.is_empty()) {
        let part = linear.slice_inputs(&chosen).expect("inputs that are there");
        let Some(part) = part else { continue };
        assert_eq!(part.shape(), [n, chosen.len()]);
        let (mut short, mut spread) = (Vec::new(), vec![0.0; ROWS * k]);
        for row in 0..ROWS {
            for &at in &chosen {
                short.push(x[row * k + at]);
                spread[row * k + at] += x[row * k + at];
            }
        }
        let (actual, expected) = (run(&part, short), run(linear, spread));
        if chosen.len() == k {
            assert_same_bits(&actual, &expected, "all inputs");
        }
        let largest = expected.iter().fold(0.0_f32, |most, y| most.max(y.abs()));
        for (actual, expected) in actual.iter().zip(&expected) {
            let gap = (actual - expected).abs();
            assert!(gap <= TOLERANCE * largest, "{actual} instead of {expected}");
        }
    }
    let index = |result: Result<(), SliceError>, count: usize| {
        let expected = |error: &SliceError| matches!(error, SliceError::Index { index, count: of, .. } if (*index, *of) == (count, count));
        assert!(result.as_ref().is_err_and(expected), "{result:?} for an index past the end");
    };
    index(linear.slice_outputs(&[0, n]).map(drop), n);
    index(linear.slice_inputs(&[0, k]).map(drop), k);
}

fn assert_same_bits(actual: &[f32], expected: &[f32], what: &str) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    assert_eq!(bits(actual), bits(expected), "chosen {what} have other bits than in the whole");
}
