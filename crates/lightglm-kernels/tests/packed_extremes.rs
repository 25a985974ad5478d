//! The largest codes there are, and groups of every size: integer sums are exact and have the same bits
//! on every instruction set, for any number of tokens.

use lightglm_kernels::cpu;
use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, QuantizedMatrix, ScaleDtype, WeightBits,
};
use packed_cases::{Packed, Rng, bits, everywhere, random_matrix};

mod packed_cases;

/// Codes of weights: random ones, all the largest, all 0.
const CODES: [&str; 3] = ["random", "largest", "zero"];

fn matrix(
    shape: [usize; 2],
    bits: WeightBits,
    group: usize,
    minimums: bool,
    codes: &str,
    rng: &mut Rng,
) -> QuantizedMatrix {
    let mut matrix = random_matrix(shape, bits, group, minimums, rng);
    match codes {
        "largest" => matrix.codes.fill(bits.largest()),
        "zero" => matrix.codes.fill(0),
        _ => {}
    }
    matrix
}

fn product(x: &[f32], w: &Packed) -> Vec<f32> {
    let [n, k] = w.packed.shape();
    let mut y = vec![f32::NAN; x.len() / k * n];
    cpu::linear_packed(x, &w.weights(), None, &mut y);
    y
}

/// On both sides of the longest segment whose sums fit 32 bits, a sum is the f32 nearest to the integer.
#[test]
fn sums_of_sixteen_bit_codes_are_the_nearest_to_the_integers() {
    let mut rng = Rng(5);
    let activation = ActivationFormat { bits: ActivationBits::Sixteen, group_size: None };
    for (bits, minimums, longest) in [
        (WeightBits::Eight, true, 259),
        (WeightBits::Eight, false, 516),
        (WeightBits::Four, true, 4403),
        (WeightBits::Four, false, 8256),
    ] {
        for k in [longest - 1, longest, longest + 1] {
            for codes in CODES {
                let mut matrix = matrix([3, k], bits, k, minimums, codes, &mut rng);
                matrix.scales.fill(1.0);
                matrix.minimums.iter_mut().for_each(|minimums| minimums.fill(0.0));
                let w = Packed::new(matrix, ScaleDtype::F32, activation);
                // The largest code is there, so that the scale is 1 and these are the codes.
                let mut x: Vec<i32> =
                    (0..3 * k).map(|_| (rng.next() % 65025) as i32 - 32512).collect();
                x[..k].fill(32512);
                x[k..2 * k].fill(-32512);
                x[2 * k] = 32512;
                let floats: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                let what = format!("{bits:?}, {k} columns, minimums {minimums}, codes {codes}");
                let y = everywhere(&what, || product(&floats, &w));
                let offset = if minimums { 0 } else { i64::from(bits.offset()) };
                for (x, y) in x.chunks_exact(k).zip(y.chunks_exact(3)) {
                    for (row, y) in w.matrix.codes.chunks_exact(k).zip(y) {
                        let terms = row.iter().zip(x);
                        let sum: i64 =
                            terms.map(|(&w, &x)| (i64::from(w) - offset) * i64::from(x)).sum();
                        assert_eq!(*y, sum as f32, "{what}");
                    }
                }
            }
        }
    }
}

/// Every size of group with every format, in both orders, with the largest codes of both sides.
#[test]
fn extreme_codes_in_groups_of_every_size() {
    let (mut rng, mut turn) = (Rng(29), 0);
    for bits_of in [WeightBits::Four, WeightBits::Eight] {
        for group in [8, 16, 32, 64, 128, usize::MAX] {
            for minimums in [false, true] {
                for a_bits in [ActivationBits::Eight, ActivationBits::Sixteen] {
                    for a_group in [None, Some(group.min(32))] {
                        for codes in CODES {
                            turn += 1;
                            let (k, t) = ([203, 264][turn % 2], [1, 2, 3, 6, 7][turn % 5]);
                            let matrix = matrix([35, k], bits_of, group, minimums, codes, &mut rng);
                            let dtype = [ScaleDtype::F16, ScaleDtype::F32][turn / 2 % 2];
                            let activation = ActivationFormat { bits: a_bits, group_size: a_group };
                            let panels = Packed::new(matrix, dtype, activation);
                            let channels = Packed::of(&panels, CodeOrder::Channels);
                            for extreme in [false, true] {
                                let x: Vec<f32> = (0..t * k)
                                    .map(|_| if extreme { rng.unit().signum() } else { rng.unit() })
                                    .collect();
                                let what = format!("{:?}, {codes}", panels.packed.format());
                                let y = everywhere(&what, || product(&x, &panels));
                                let again = everywhere(&what, || product(&x, &channels));
                                assert_eq!(bits(&y), bits(&again), "{what}");
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row has the same bits alone and in any batch, and in rows as long as those of the 9B model.
#[test]
fn batches_and_long_rows() {
    let mut rng = Rng(31);
    for (bits_of, group, a_bits, a_group) in [
        (WeightBits::Eight, usize::MAX, ActivationBits::Eight, None),
        (WeightBits::Eight, usize::MAX, ActivationBits::Sixteen, None),
        (WeightBits::Eight, 16, ActivationBits::Sixteen, Some(16)),
        (WeightBits::Eight, 32, ActivationBits::Sixteen, Some(32)),
        (WeightBits::Four, 32, ActivationBits::Eight, Some(32)),
        (WeightBits::Four, 32, ActivationBits::Sixteen, Some(32)),
        (WeightBits::Four, 128, ActivationBits::Eight, None),
        (WeightBits::Four, usize::MAX, ActivationBits::Sixteen, None),
    ] {
        let activation = ActivationFormat { bits: a_bits, group_size: a_group };
        let minimums = a_bits == ActivationBits::Sixteen && bits_of == WeightBits::Four;
        for (n, k, tokens) in
            [(67, 77, (1..=40).chain([513]).collect()), (33, 13696, vec![1, 2, 6, 7])]
        {
            let matrix = random_matrix([n, k], bits_of, group, minimums, &mut rng);
            let w = Packed::new(matrix, ScaleDtype::F16, activation);
            let most = tokens.iter().copied().max().unwrap_or(0);
            let x = rng.vec(most * k);
            let all = everywhere("all tokens", || product(&x, &w));
            for t in tokens {
                let y = product(&x[..t * k], &w);
                let what = format!("{n} x {k}, {t} tokens, {:?}", w.packed.format());
                assert_eq!(bits(&y), bits(&all[..t * n]), "{what}");
            }
        }
    }
}
