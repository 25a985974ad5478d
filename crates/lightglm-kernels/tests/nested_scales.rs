//! Nested scales: the same matrix, and the same products to the bit, as with the scales in f32.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{gather_packed_rows, linear_packed};
use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, LmGradients, PackedMatrix, PackedSizes,
    PackingError, QuantizedMatrix, ScaleDtype, WeightBits,
};
use packed_cases::{Packed, Rng, bits, everywhere, nested, random_matrix};
use proptest::prelude::*;

mod packed_cases;

const SIXTEEN: ActivationFormat =
    ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };

fn product(w: &Packed, x: &[f32], tokens: usize) -> Vec<f32> {
    everywhere("nested scales", || {
        let mut y = vec![0.0; tokens * w.packed.shape()[0]];
        linear_packed(x, &w.weights(), None, &mut y);
        y
    })
}

fn check(matrix: &QuantizedMatrix, activation: ActivationFormat, tokens: usize, rng: &mut Rng) {
    let [n, k] = matrix.shape;
    let compact = Packed::new(matrix.clone(), ScaleDtype::Nested, activation);
    let plain = Packed::new(matrix.clone(), ScaleDtype::F32, activation);
    let x = rng.vec(tokens * k);
    let (actual, expected) = (product(&compact, &x, tokens), product(&plain, &x, tokens));
    assert_eq!(bits(&actual), bits(&expected), "{n} x {k}, {tokens} tokens");
    let ids: Vec<u32> = (0..9).map(|_| (rng.next() % n as u64) as u32).collect();
    let rows = |w: &Packed| {
        let mut out = vec![0.0; ids.len() * k];
        gather_packed_rows(&w.weights(), &ids, &mut out);
        out
    };
    assert_eq!(bits(&rows(&compact)), bits(&rows(&plain)));
}

/// What Q4_K and Q6_K are.
#[test]
fn a_small_matrix() {
    let mut rng = Rng(2);
    for (code_bits, group, minimums) in
        [(WeightBits::Four, 32, true), (WeightBits::Eight, 16, false)]
    {
        let matrix = random_matrix([33, 256], code_bits, group, minimums, &mut rng);
        check(&nested(matrix, &mut rng), SIXTEEN, 3, &mut rng);
    }
}

/// Every format, numbers of rows that end inside of panels and halves of them, and of tokens that end
/// inside of tiles.
#[test]
fn products_and_rows_are_those_of_f32_scales() {
    let mut rng = Rng(3);
    let eight = |group_size| ActivationFormat { bits: ActivationBits::Eight, group_size };
    for (n, k) in [(1, 256), (33, 768), (70, 512)] {
        for code_bits in [WeightBits::Four, WeightBits::Eight] {
            for group in [8, 16, 32, 256] {
                for minimums in [false, true] {
                    let matrix = random_matrix([n, k], code_bits, group, minimums, &mut rng);
                    let matrix = nested(matrix, &mut rng);
                    for activation in [SIXTEEN, eight(Some(32)), eight(None)] {
                        for tokens in [1, 2, 5, 13] {
                            check(&matrix, activation, tokens, &mut rng);
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    /// Chosen rows, and the order of channels, keep every value.
    #[test]
    fn rows_and_orders_keep_the_values(
        n in 1usize..200,
        units in 1usize..4,
        four: bool,
        minimums: bool,
        seed: u64,
    ) {
        let mut rng = Rng(seed);
        let code_bits = if four { WeightBits::Four } else { WeightBits::Eight };
        let matrix = random_matrix([n, units * 256], code_bits, 32, minimums, &mut rng);
        let matrix = nested(matrix, &mut rng);
        let whole = PackedMatrix::<Flex>::pack(&matrix, ScaleDtype::Nested, SIXTEEN, &FlexDevice);
        let whole = whole.expect("they are nested");
        let rows: Vec<usize> = (0..50).map(|_| rng.next() as usize % n).collect();
        let some = whole.select_rows(&rows).expect("they are there");
        prop_assert_eq!(some.format().scale_dtype, ScaleDtype::Nested);
        let (values, k) = (matrix.dequantize(), matrix.shape[1]);
        let expected: Vec<f32> =
            rows.iter().flat_map(|&row| values[row * k..(row + 1) * k].to_vec()).collect();
        prop_assert_eq!(bits(&some.unpack().dequantize()), bits(&expected));
        let channels = whole.clone().with_order(CodeOrder::Channels);
        prop_assert_eq!(channels.format().scale_dtype, ScaleDtype::F32);
        prop_assert_eq!(bits(&channels.unpack().dequantize()), bits(&values));
    }
}

/// A matrix of 4 bits, groups of 32 and minimums takes 4.625 bits a weight; of 8 bits and groups of 16,
/// 8.5625.
#[test]
fn bytes() {
    let mut rng = Rng(5);
    for (code_bits, group, minimums, eighths) in
        [(WeightBits::Four, 32, true, 4.625), (WeightBits::Eight, 16, false, 8.5625)]
    {
        let matrix =
            nested(random_matrix([64, 1024], code_bits, group, minimums, &mut rng), &mut rng);
        let packed = PackedMatrix::<Flex>::pack(&matrix, ScaleDtype::Nested, SIXTEEN, &FlexDevice);
        let packed = packed.expect("they are nested");
        assert_eq!(packed.bytes() as f64 * 8.0, 64.0 * 1024.0 * eighths);
        let sizes = PackedSizes::new(packed.shape(), packed.format());
        assert_eq!(packed.codes.val().dims(), [sizes.codes]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut rng = Rng(7);
    let pack = |matrix: &_| {
        PackedMatrix::<Flex>::pack(matrix, ScaleDtype::Nested, SIXTEEN, &FlexDevice)
            .expect_err("no")
    };
    let matrix = random_matrix([3, 128], WeightBits::Four, 32, false, &mut rng);
    let error = PackingError::NestedGroups { group_size: 32, in_features: 128 };
    assert_eq!(pack(&matrix), error);
    let matrix = random_matrix([3, 768], WeightBits::Four, 24, false, &mut rng);
    assert_eq!(pack(&matrix), PackingError::NestedGroups { group_size: 24, in_features: 768 });
    let matrix = nested(random_matrix([3, 256], WeightBits::Four, 32, true, &mut rng), &mut rng);
    let mut scales = matrix.clone();
    scales.scales[2 * 8..][..2].copy_from_slice(&[1.0, 1.0 / 3.0]);
    assert_eq!(pack(&scales), PackingError::NotNested { part: "scales", row: 2 });
    let mut minimums = matrix;
    minimums.minimums.as_mut().expect("there are some")[8..][..2].copy_from_slice(&[129.0, 1.0]);
    assert_eq!(pack(&minimums), PackingError::NotNested { part: "minimums", row: 1 });
}

/// The gradient of a packed projection, which unpacks a few rows at a time, is that of the whole unpacked
/// matrix to the bit.
#[test]
fn gradients_are_those_of_the_unpacked_matrix() {
    let mut rng = Rng(9);
    // More elements than are unpacked at a time, and fewer.
    for (n, k) in [(1100, 2048), (33, 256)] {
        let matrix = nested(random_matrix([n, k], WeightBits::Four, 32, true, &mut rng), &mut rng);
        let packed = PackedMatrix::<Flex>::pack(&matrix, ScaleDtype::Nested, SIXTEEN, &FlexDevice);
        let packed = packed.expect("they are nested");
        let grad = rng.vec(5 * n);
        let grad =
            || Tensor::<Flex, 2>::from_data(TensorData::new(grad.clone(), [5, n]), &FlexDevice);
        let values = |x: Tensor<Flex, 2>| x.into_data().to_vec::<f32>().expect("f32");
        let dense = Tensor::from_data(TensorData::new(matrix.dequantize(), [n, k]), &FlexDevice);
        let actual = values(Flex::project_packed_backward_input(grad(), &packed));
        assert_eq!(bits(&actual), bits(&values(Flex::project_backward_input(grad(), dense))));
    }
}
