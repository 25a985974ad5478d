//! Packed matrices on every instruction set: against f64, bit for bit against each other, against
//! plain burn, and against numbers made by torch.

use std::path::PathBuf;

use burn::tensor::{Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{self, DotIsa};
use lightglm_kernels::{
    ActivationBits, ActivationFormat, LmBackend, PackedMatrix, QuantizedMatrix, ScaleDtype,
    WeightBits, packed,
};
use packed_cases::{Packed, Rng, bits, everywhere, random_matrix};
use proptest::prelude::*;
use safetensors::SafeTensors;

mod packed_cases;

const SIZES: [usize; 10] = [1, 3, 8, 31, 32, 33, 63, 64, 65, 257];
const TOKENS: [usize; 11] = [0, 1, 2, 3, 7, 12, 13, 16, 17, 48, 65];
const GROUPS: [usize; 6] = [8, 16, 32, 64, 128, usize::MAX];

/// The specification of quantized activations, spelled out.
fn quantize(x: &[f32], k: usize, format: ActivationFormat) -> (Vec<i16>, Vec<f32>) {
    let largest = format.bits.largest() as f32;
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(k) {
        for group in row.chunks(format.group_size.unwrap_or(k)) {
            let scale = group.iter().fold(0.0f32, |m, x| m.max(x.abs())) / largest;
            let scale = if scale == 0.0 { 1.0 } else { scale };
            scales.push(scale);
            let code = |x: &f32| (x / scale).round_ties_even().clamp(-largest, largest) as i16;
            codes.extend(group.iter().map(code));
        }
    }
    (codes, scales)
}

fn check(t: usize, w: &Packed, rng: &mut Rng) {
    let ([n, k], format) = (w.packed.shape(), *w.packed.format());
    let x = rng.vec(t * k);
    let bias = rng.vec(n);
    let (codes, scales) = quantize(&x, k, format.activation);
    let quantized = cpu::quantize_activations(&x, k, format.activation);
    assert_eq!((&quantized.codes, bits(&quantized.scales)), (&codes, bits(&scales)));
    let group = format.activation.group_size.unwrap_or(k).min(k);
    let a_groups = k.div_ceil(group);
    for bias in [None, Some(&bias[..])] {
        let what = format!("{t} tokens, {n} x {k}, {format:?}");
        let run = |x: &[f32]| {
            let mut y = vec![f32::NAN; x.len() / k * n];
            cpu::linear_packed(x, &w.weights(), bias, &mut y);
            y
        };
        let y = everywhere(&what, || run(&x));
        let row = t / 2;
        if t > 1 {
            let alone = run(&x[row * k..][..k]);
            assert_eq!(bits(&alone), bits(&y[row * n..][..n]), "{what}: alone");
        }
        for i in 0..t {
            for j in 0..n {
                let (mut exact, mut size) = (0.0f64, 0.0f64);
                let segment = group.min(format.group_size);
                for start in (0..k).step_by(segment) {
                    let columns = start..k.min(start + segment);
                    let at = j * w.matrix.groups() + start / format.group_size;
                    let (s, s_a) = (w.matrix.scales[at], scales[i * a_groups + start / group]);
                    let (mut sum, mut total) = (0i64, 0i64);
                    let offset = i64::from(format.bits.offset());
                    for c in columns {
                        let a = i64::from(codes[i * k + c]);
                        let code = i64::from(w.matrix.codes[j * k + c]);
                        sum += a * if format.has_minimums { code } else { code - offset };
                        total += a;
                    }
                    let m = w.matrix.minimums.as_ref().map_or(0.0, |m| f64::from(m[at]));
                    let terms = [f64::from(s) * sum as f64, m * total as f64];
                    for term in terms {
                        exact += term * f64::from(s_a);
                        size += (term * f64::from(s_a)).abs();
                    }
                }
                let b = bias.map_or(0.0, |b| f64::from(b[j]));
                let error = (f64::from(y[i * n + j]) - exact - b).abs();
                // Each segment rounds a few times, each sum once.
                let steps = 2.0 * k.div_ceil(segment) as f64 + 4.0;
                let bound = steps * 6e-8 * (size + b.abs());
                assert!(error <= bound, "{what}: [{i}, {j}] error {error} above {bound}");
            }
        }
    }
}

/// Every size with every other, formats and numbers of tokens in turns.
#[test]
fn awkward_shapes() {
    let (mut rng, mut turn) = (Rng(7), 0usize);
    for n in SIZES {
        for k in SIZES {
            for _ in 0..3 {
                turn += 1;
                let bits =
                    if turn.is_multiple_of(2) { WeightBits::Four } else { WeightBits::Eight };
                let minimums = (turn / 2).is_multiple_of(2);
                let dtype = if turn.is_multiple_of(3) { ScaleDtype::F16 } else { ScaleDtype::F32 };
                let group = GROUPS[turn % 6].min(k);
                let group = if group.is_multiple_of(8) { group } else { k };
                let a_group = GROUPS[turn / 6 % 6];
                let activation = ActivationFormat {
                    bits: match turn / 4 % 2 {
                        0 => ActivationBits::Eight,
                        _ => ActivationBits::Sixteen,
                    },
                    group_size: (a_group < k).then_some(a_group),
                };
                let matrix = random_matrix([n, k], bits, group, minimums, &mut rng);
                let w = Packed::new(matrix, dtype, activation);
                check(TOKENS[turn * 7 % 11], &w, &mut rng);
            }
        }
    }
}

/// Every format in one shape, with more tokens than a tile has.
#[test]
fn every_format() {
    let mut rng = Rng(11);
    for bits in [WeightBits::Four, WeightBits::Eight] {
        for group in GROUPS {
            for minimums in [false, true] {
                for a_bits in [ActivationBits::Eight, ActivationBits::Sixteen] {
                    for a_group in [None, Some(32), Some(128)] {
                        let activation = ActivationFormat { bits: a_bits, group_size: a_group };
                        let matrix = random_matrix([40, 264], bits, group, minimums, &mut rng);
                        for dtype in [ScaleDtype::F16, ScaleDtype::F32] {
                            check(5, &Packed::new(matrix.clone(), dtype, activation), &mut rng);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_number_of_tokens() {
    let mut rng = Rng(13);
    for bits in [WeightBits::Four, WeightBits::Eight] {
        for a_bits in [ActivationBits::Eight, ActivationBits::Sixteen] {
            let activation = ActivationFormat { bits: a_bits, group_size: None };
            let matrix = random_matrix([70, 96], bits, 32, false, &mut rng);
            let w = Packed::new(matrix, ScaleDtype::F32, activation);
            for t in TOKENS.into_iter().chain(0..30) {
                check(t, &w, &mut rng);
            }
        }
    }
}

/// The largest codes there are, in rows longer than 32 bits can sum up in one go.
#[test]
fn long_rows_do_not_overflow() {
    let k = 140_000;
    for minimums in [false, true] {
        let matrix = QuantizedMatrix {
            shape: [2, k],
            bits: WeightBits::Eight,
            group_size: k,
            codes: [vec![255; k], vec![0; k]].concat(),
            scales: vec![1.0; 2],
            minimums: minimums.then(|| vec![0.5; 2]),
        };
        for bits in [ActivationBits::Eight, ActivationBits::Sixteen] {
            let activation = ActivationFormat { bits, group_size: None };
            let w = Packed::new(matrix.clone(), ScaleDtype::F32, activation);
            for sign in [1.0, -1.0] {
                let x = vec![sign; k];
                let y = everywhere("long rows", || {
                    let mut y = vec![0.0; 2];
                    cpu::linear_packed(&x, &w.weights(), None, &mut y);
                    y
                });
                let exact = match minimums {
                    true => [255.5 * k as f32, 0.5 * k as f32],
                    false => [127.0 * k as f32, -128.0 * k as f32],
                };
                for (y, exact) in y.iter().zip(exact) {
                    let exact = exact * sign;
                    assert!((y - exact).abs() <= 1e-6 * exact.abs(), "{y} against {exact}");
                }
            }
        }
    }
}

#[test]
fn not_a_number_stays_in_its_token() {
    let mut rng = Rng(17);
    let activation = ActivationFormat { bits: ActivationBits::Eight, group_size: Some(32) };
    let matrix = random_matrix([33, 96], WeightBits::Four, 32, true, &mut rng);
    let w = Packed::new(matrix, ScaleDtype::F16, activation);
    let clean = rng.vec(3 * 96);
    let run = |x: &[f32]| {
        let mut y = vec![0.0; 3 * 33];
        cpu::linear_packed(x, &w.weights(), None, &mut y);
        y
    };
    let expected = run(&clean);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = clean.clone();
        x[96 + 40] = bad;
        for isa in DotIsa::available() {
            let y = isa.run(|| run(&x));
            assert!(y[33..66].iter().all(|y| y.is_nan()), "{bad} on {}", isa.name());
            assert_eq!(bits(&y[..33]), bits(&expected[..33]));
            assert_eq!(bits(&y[66..]), bits(&expected[66..]));
        }
    }
    for extreme in [f32::MAX, f32::MIN_POSITIVE, 1e-45, 3e-44, 0.0] {
        let x: Vec<f32> = (0..96).map(|i| if i % 3 > 0 { extreme } else { -extreme }).collect();
        let (codes, scales) = quantize(&x, 96, ActivationFormat::INT8_PER_TOKEN);
        for isa in DotIsa::available() {
            let format = ActivationFormat::INT8_PER_TOKEN;
            let q = isa.run(|| cpu::quantize_activations(&x, 96, format));
            assert_eq!((&q.codes, &q.scales), (&codes, &scales), "{extreme} on {}", isa.name());
        }
    }
}

#[test]
fn rows_are_the_dequantized_rows() {
    let mut rng = Rng(19);
    for bits_of in [WeightBits::Four, WeightBits::Eight] {
        for (k, group) in [(257, 257), (264, 32), (96, 64), (1, 1)] {
            for minimums in [false, true] {
                let matrix = random_matrix([70, k], bits_of, group, minimums, &mut rng);
                let w = Packed::new(matrix, ScaleDtype::F16, ActivationFormat::INT8_PER_TOKEN);
                let ids = [69, 0, 31, 32, 33, 5, 5];
                let mut expected = vec![0.0; ids.len() * k];
                for (&id, row) in ids.iter().zip(expected.chunks_exact_mut(k)) {
                    w.matrix.dequantize_row(id as usize, row);
                }
                let rows = Flex::embed_packed(&w.packed, &ids);
                let rows = rows.into_data().to_vec::<f32>().expect("f32");
                assert_eq!(bits(&rows), bits(&expected));
                let plain = packed::reference::embed_packed(&w.packed, &ids);
                assert_eq!(rows, plain.into_data().to_vec::<f32>().expect("f32"));
            }
        }
    }
}

#[test]
fn flex_does_what_plain_burn_does() {
    let mut rng = Rng(23);
    for (t, n, k) in [(1, 48, 64), (3, 7, 65), (17, 257, 40), (64, 33, 257), (0, 5, 8), (5, 1, 1)] {
        for bits in [WeightBits::Four, WeightBits::Eight] {
            for minimums in [false, true] {
                for a_bits in [ActivationBits::Eight, ActivationBits::Sixteen] {
                    for group_size in [None, Some(8)] {
                        let activation = ActivationFormat { bits: a_bits, group_size };
                        let matrix = random_matrix([n, k], bits, 8, minimums, &mut rng);
                        let w = Packed::new(matrix, ScaleDtype::F16, activation).packed;
                        let x = Tensor::random([t, k], Distribution::Normal(0.0, 1.0), &FlexDevice);
                        let bias = Tensor::random([n], Distribution::Default, &FlexDevice);
                        let y = Flex::project_packed(x.clone(), &w, Some(bias.clone()));
                        assert_eq!(y.dims(), [t, n]);
                        let expected = packed::reference::project_packed(x, &w, Some(bias));
                        let y = y.into_data().to_vec::<f32>().expect("f32");
                        let expected = expected.into_data().to_vec::<f32>().expect("f32");
                        // Codes up to 255 times scales near 1 in f32 sums of up to 257 products.
                        let largest = expected.iter().fold(1.0f32, |m, y| m.max(y.abs()));
                        for (y, e) in y.iter().zip(expected) {
                            assert!((y - e).abs() <= 2e-5 * largest, "{t} {n} {k}: {y} {e}");
                        }
                    }
                }
            }
        }
    }
}

/// `shared/fixtures/quant/NAME` beside the repository, or under `LIGHTGLM_SHARED`.
fn fixture(name: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared = std::env::var("LIGHTGLM_SHARED").unwrap_or_else(|_| beside.into());
    let path = PathBuf::from(shared).join("fixtures/quant").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// Elements of `SIZE` bytes.
fn elements<const SIZE: usize, T>(
    file: &SafeTensors<'_>,
    name: &str,
    read: impl Fn([u8; SIZE]) -> T,
) -> Vec<T> {
    let data = file.tensor(name).expect("in the file").data();
    data.chunks_exact(SIZE).map(|bytes| read(bytes.try_into().expect("exact"))).collect()
}

#[test]
fn numbers_of_torch() {
    let Some(bytes) = fixture("ptq.safetensors") else { return };
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (n, k, m) = (1024, 512, 4);
    let floats = |name| elements(&file, name, f32::from_le_bytes);
    let x = floats("x");
    let eight = ActivationFormat::INT8_PER_TOKEN;

    let x8: Vec<i16> =
        elements(&file, "x8.q", i8::from_le_bytes).into_iter().map(i16::from).collect();
    let q = cpu::quantize_activations(&x, k, eight);
    assert_eq!((&q.codes, bits(&q.scales)), (&x8, bits(&floats("x8.scale"))));

    let codes = elements(&file, "w8.q", |[q]: [u8; 1]| q.wrapping_add(128));
    let mut w8 = QuantizedMatrix {
        shape: [n, k],
        bits: WeightBits::Eight,
        group_size: k,
        codes,
        scales: floats("w8.scale"),
        minimums: None,
    };
    let w = Packed::new(w8.clone(), ScaleDtype::F32, eight);
    let run = |x: &[f32], w: &Packed| {
        everywhere("torch", || {
            let mut y = vec![0.0; x.len() / w.packed.shape()[1] * w.packed.shape()[0]];
            cpu::linear_packed(x, &w.weights(), None, &mut y);
            y
        })
    };
    assert_eq!(bits(&run(&x, &w)), bits(&floats("w8a8.y")));

    // With scales of 1 outputs are the integer sums. They stay below 2^24.
    w8.scales.fill(1.0);
    let integers: Vec<f32> = x8.iter().map(|&code| f32::from(code)).collect();
    let sums = run(&integers, &Packed::new(w8, ScaleDtype::F32, eight));
    let expected = elements(&file, "w8a8.acc_i32", i32::from_le_bytes);
    assert_eq!(sums.iter().map(|&sum| sum as i32).collect::<Vec<_>>(), expected);

    let nibbles: Vec<u8> = elements(&file, "w4.q_packed", |[q]: [u8; 1]| [q & 15, q >> 4]).concat();
    let groups = elements(&file, "w4a8.acc_group_i32", i32::from_le_bytes);
    for group in 0..4 {
        // Eight more columns with a weight of zero make the activations' scale 1.
        let mut codes = Vec::new();
        for row in nibbles.chunks_exact(k).take(64) {
            codes.extend_from_slice(&row[group * 128..][..128]);
            codes.extend([8; 8]);
        }
        let w = QuantizedMatrix {
            shape: [64, 136],
            bits: WeightBits::Four,
            group_size: 136,
            codes,
            scales: vec![1.0; 64],
            minimums: None,
        };
        let mut x = Vec::new();
        for row in integers.chunks_exact(k) {
            x.extend_from_slice(&row[group * 128..][..128]);
            x.extend([127.0; 8]);
        }
        let sums = run(&x, &Packed::new(w, ScaleDtype::F32, eight));
        for i in 0..m * 64 {
            assert_eq!(sums[i] as i32, groups[i * 4 + group], "group {group}, sum {i}");
        }
    }

    let w4 = QuantizedMatrix {
        shape: [n, k],
        bits: WeightBits::Four,
        group_size: 128,
        codes: nibbles,
        scales: floats("w4.scale"),
        minimums: None,
    };
    let y = run(&x, &Packed::new(w4.clone(), ScaleDtype::F32, eight));
    for (y, expected) in y.iter().zip(floats("w4a8.y")) {
        // Four products in another order, each up to a few times their sum.
        assert!((y - expected).abs() <= 4e-6 * expected.abs().max(1.0), "{y} {expected}");
    }

    // Weight-only in torch, 16-bit activations here: what the activations lose is small.
    let sixteen = ActivationFormat { bits: ActivationBits::Sixteen, group_size: Some(128) };
    let y = run(&x, &Packed::new(w4, ScaleDtype::F32, sixteen));
    let expected = floats("w4.y_weight_only");
    let signal: f32 = expected.iter().map(|y| y * y).sum();
    let noise: f32 = y.iter().zip(&expected).map(|(y, e)| (y - e) * (y - e)).sum();
    assert!(noise <= 1e-8 * signal, "signal {signal}, noise {noise}");
}

proptest! {
    #[test]
    fn unpacking_gives_back_what_was_packed(
        n in 1usize..100, k in 1usize..100, group in 1usize..5, seed: u64, four: bool, minimums: bool,
    ) {
        let bits = if four { WeightBits::Four } else { WeightBits::Eight };
        let group = if group == 4 { k } else { group * 16 };
        let matrix = random_matrix([n, k], bits, group, minimums, &mut Rng(seed));
        let packed = PackedMatrix::<Flex>::pack(
            &matrix, ScaleDtype::F32, ActivationFormat::INT8_PER_TOKEN, &FlexDevice,
        ).expect("fits");
        prop_assert_eq!(packed.unpack(), matrix);
    }
}

#[test]
fn codes_out_of_range_are_an_error() {
    let mut matrix = random_matrix([40, 40], WeightBits::Four, 40, false, &mut Rng(1));
    matrix.codes[39 * 40 + 3] = 16;
    let packed = PackedMatrix::<Flex>::pack(
        &matrix,
        ScaleDtype::F32,
        ActivationFormat::INT8_PER_TOKEN,
        &FlexDevice,
    );
    let error = packed.expect_err("16 has five bits");
    assert!(error.to_string().contains("row 39"), "{error}");
}

#[test]
fn scales_beyond_their_precision_are_an_error() {
    let mut matrix = random_matrix([40, 40], WeightBits::Eight, 8, true, &mut Rng(1));
    let pack = |matrix: &_, dtype| {
        PackedMatrix::<Flex>::pack(matrix, dtype, ActivationFormat::INT8_PER_TOKEN, &FlexDevice)
    };
    matrix.scales[39 * 5 + 2] = 1e5;
    let error = pack(&matrix, ScaleDtype::F16).expect_err("f16 ends at 65504").to_string();
    assert!(error.contains("scales") && error.contains("row 39"), "{error}");
    pack(&matrix, ScaleDtype::F32).expect("f32 has room");
    matrix.scales[39 * 5 + 2] = 1.0;
    matrix.minimums.as_mut().expect("asked for")[7 * 5] = -1e5;
    let error = pack(&matrix, ScaleDtype::F16).expect_err("f16 ends at -65504").to_string();
    assert!(error.contains("minimums") && error.contains("row 7"), "{error}");
}
