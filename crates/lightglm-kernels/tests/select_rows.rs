//! Rows chosen from a packed matrix: what packing the chosen rows gives, byte by byte.

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::SliceError;
use lightglm_kernels::{
    ActivationFormat, CodeOrder, PackedMatrix, QuantizedMatrix, ScaleDtype, WeightBits,
};
use packed_cases::{Rng, random_matrix};
use proptest::prelude::*;

mod packed_cases;

fn pack(matrix: &QuantizedMatrix, dtype: ScaleDtype, order: CodeOrder) -> PackedMatrix<Flex> {
    let activation = ActivationFormat::INT8_PER_TOKEN;
    PackedMatrix::pack(matrix, dtype, activation, &FlexDevice).expect("fits").with_order(order)
}

/// The slow, obvious reference.
fn rows_of(matrix: &QuantizedMatrix, rows: &[usize]) -> QuantizedMatrix {
    let ([_, k], groups) = (matrix.shape, matrix.groups());
    let gather = |values: &[f32]| -> Vec<f32> {
        rows.iter().flat_map(|&row| values[row * groups..(row + 1) * groups].to_vec()).collect()
    };
    QuantizedMatrix {
        shape: [rows.len(), k],
        bits: matrix.bits,
        group_size: matrix.group_size,
        codes: rows.iter().flat_map(|&row| matrix.codes[row * k..(row + 1) * k].to_vec()).collect(),
        scales: gather(&matrix.scales),
        minimums: matrix.minimums.as_deref().map(gather),
    }
}

/// Codes, scales and minimums as bytes.
fn parts(matrix: &PackedMatrix<Flex>) -> [Vec<u8>; 3] {
    let floats = |x: Tensor<Flex, 1>| x.into_data().bytes.to_vec();
    [
        matrix.codes.val().into_data().bytes.to_vec(),
        floats(matrix.scales.val()),
        matrix.minimums.as_ref().map_or(Vec::new(), |minimums| floats(minimums.val())),
    ]
}

proptest! {
    #[test]
    fn chosen_rows_are_packed_as_they_would_be_alone(
        n in 1usize..300,
        k in 1usize..150,
        four: bool,
        group in prop_oneof![Just(8), Just(32), Just(usize::MAX)],
        minimums: bool,
        half: bool,
        channels: bool,
        seed: u64,
    ) {
        let mut rng = Rng(seed);
        let bits = if four { WeightBits::Four } else { WeightBits::Eight };
        let matrix = random_matrix([n, k], bits, group, minimums, &mut rng);
        let dtype = if half { ScaleDtype::F16 } else { ScaleDtype::F32 };
        let order = if channels { CodeOrder::Channels } else { CodeOrder::Panels };
        let whole = pack(&matrix, dtype, order);
        let some: Vec<usize> = (0..n).filter(|_| rng.next().is_multiple_of(2)).collect();
        let any: Vec<usize> = (0..40).map(|_| rng.next() as usize % n).collect();
        for rows in [(0..n).collect(), some, any, Vec::new()] {
            let actual = whole.select_rows(&rows).expect("rows that are there");
            prop_assert_eq!(actual.shape(), [rows.len(), k]);
            prop_assert_eq!(actual.format(), whole.format());
            let expected = pack(&rows_of(&matrix, &rows), dtype, order);
            prop_assert_eq!(parts(&actual), parts(&expected));
        }
    }
}

#[test]
fn a_row_past_the_end_is_an_error() {
    let matrix = random_matrix([33, 8], WeightBits::Eight, 8, false, &mut Rng(1));
    let whole = pack(&matrix, ScaleDtype::F32, CodeOrder::Panels);
    let error = whole.select_rows(&[0, 33]).expect_err("there are 33");
    assert_eq!(error, SliceError::Index { axis: "output", index: 33, count: 33 });
}
