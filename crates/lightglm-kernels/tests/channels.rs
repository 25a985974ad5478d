//! Codes in the order of input channels: the bits of the dense product, whatever is left out.

use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu;
use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, PackedMatrix, ScaleDtype, WeightBits,
};
use packed_cases::{Packed, Rng, everywhere, random_matrix};
use proptest::prelude::*;

mod packed_cases;

/// Codes in the order of channels give the bits of the dense product on every instruction set, for
/// any share of zeros in `x` and any number of tokens.
#[test]
fn channels_give_the_bits_of_panels() {
    let mut rng = Rng(11);
    let formats = [
        (WeightBits::Eight, 64, false, ActivationBits::Eight, Some(64)),
        (WeightBits::Eight, 32, true, ActivationBits::Sixteen, Some(32)),
        (WeightBits::Eight, usize::MAX, false, ActivationBits::Eight, None),
        (WeightBits::Eight, 128, false, ActivationBits::Eight, Some(32)),
        (WeightBits::Four, 64, false, ActivationBits::Eight, Some(64)),
        (WeightBits::Four, 32, true, ActivationBits::Sixteen, None),
        (WeightBits::Four, 128, false, ActivationBits::Eight, Some(64)),
        (WeightBits::Four, 32, false, ActivationBits::Eight, Some(32)),
        (WeightBits::Four, 32, true, ActivationBits::Sixteen, Some(32)),
        (WeightBits::Eight, 16, false, ActivationBits::Sixteen, Some(16)),
        (WeightBits::Eight, usize::MAX, false, ActivationBits::Sixteen, None),
    ];
    for (bits, group, minimums, activation, activation_group) in formats {
        for [n, k] in [[1, 1], [3, 65], [64, 64], [130, 257], [300, 96], [1100, 130]] {
            let activation = ActivationFormat { bits: activation, group_size: activation_group };
            let matrix = random_matrix([n, k], bits, group, minimums, &mut rng);
            let panels = Packed::new(matrix, ScaleDtype::F16, activation);
            let channels = Packed::of(&panels, CodeOrder::Channels);
            let bias = rng.vec(n);
            let ids: Vec<u32> = (0..n as u32).step_by(7).collect();
            let rows = |w: &Packed| {
                let mut out = vec![0.0; ids.len() * k];
                cpu::gather_packed_rows(&w.weights(), &ids, &mut out);
                out
            };
            assert_eq!(rows(&panels), rows(&channels));
            for t in [1, 2, 3, 4, 5, 17] {
                for zeros in [0, 50, 90, 100] {
                    let x: Vec<f32> = (0..t * k)
                        .map(|_| if rng.next() % 100 < zeros { 0.0 } else { rng.unit() })
                        .collect();
                    let product = |w: &Packed| {
                        let mut y = vec![f32::NAN; t * n];
                        cpu::linear_packed(&x, &w.weights(), Some(&bias), &mut y);
                        y
                    };
                    let expected = product(&panels);
                    let what = format!("{bits:?} {n}x{k}, {t} tokens, {zeros} % zeros");
                    let actual = everywhere(&what, || product(&channels));
                    assert_eq!(
                        packed_cases::bits(&actual),
                        packed_cases::bits(&expected),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn not_a_number_is_not_left_out() {
    let activation = ActivationFormat { bits: ActivationBits::Eight, group_size: Some(32) };
    let matrix = random_matrix([40, 70], WeightBits::Eight, 32, false, &mut Rng(3));
    let panels = Packed::new(matrix, ScaleDtype::F16, activation);
    let channels = Packed::of(&panels, CodeOrder::Channels);
    let mut x = vec![0.0; 70];
    x[69] = f32::NAN;
    let mut y = vec![0.0; 40];
    cpu::linear_packed(&x, &channels.weights(), None, &mut y);
    assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
}

proptest! {
    #[test]
    fn orders_turn_into_each_other(n in 1usize..300, k in 1usize..70, four: bool, seed: u64) {
        let bits = if four { WeightBits::Four } else { WeightBits::Eight };
        let matrix = random_matrix([n, k], bits, usize::MAX, false, &mut Rng(seed));
        let activation = ActivationFormat::INT8_PER_TOKEN;
        let panels =
            PackedMatrix::<Flex>::pack(&matrix, ScaleDtype::F32, activation, &FlexDevice).expect("fits");
        let codes = |x: &PackedMatrix<Flex>| x.codes.val().into_data().to_vec::<u8>().expect("u8");
        let before = codes(&panels);
        let channels = panels.with_order(CodeOrder::Channels);
        prop_assert_eq!(channels.unpack(), matrix);
        prop_assert_eq!(codes(&channels.with_order(CodeOrder::Panels)), before);
    }
}
