//! Every kernel on every instruction set and several thread counts: against f64, and bit for bit
//! against each other.

use half::{bf16, f16};
use lightglm_kernels::cpu::{self, Isa, KvSliceMut, Weights, team};
use random::Rng;

mod random;

const SHAPES: [usize; 11] = [0, 1, 3, 8, 15, 16, 17, 63, 64, 65, 257];

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs `work` on every instruction set and on 1, 2, 3 and 5 threads, asserts that all results have
/// the same bits, and returns one.
fn everywhere(what: &str, work: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let expected = Isa::available()[0].run(&work);
    for isa in Isa::available() {
        for threads in [1, 2, 3, 5] {
            team::set_num_threads(threads);
            let actual = isa.run(&work);
            let first = bits(&actual).iter().zip(bits(&expected)).position(|(a, b)| *a != b);
            assert!(
                first.is_none(),
                "{what}: {} with {threads} threads differs at {first:?}: {} and {}",
                isa.name(),
                actual[first.unwrap_or(0)],
                expected[first.unwrap_or(0)]
            );
        }
    }
    expected
}

/// The specification of a dot product, spelled out.
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for k in 0..x.len().next_multiple_of(16) {
        let (a, b) = if k < x.len() { (x[k], w[k]) } else { (0.0, 0.0) };
        lanes[k % 16] = a.mul_add(b, lanes[k % 16]);
    }
    for step in [8, 4, 2, 1] {
        for i in 0..step {
            lanes[i] += lanes[i + step];
        }
    }
    lanes[0]
}

fn check_linear(t: usize, n: usize, k: usize, rng: &mut Rng) {
    let x = rng.vec(t * k);
    let w16: Vec<bf16> = rng.vec(n * k).into_iter().map(bf16::from_f32).collect();
    let wh: Vec<f16> = rng.vec(n * k).into_iter().map(f16::from_f32).collect();
    let bias = rng.vec(n);
    let as_f32: Vec<f32> = w16.iter().map(|w| w.to_f32()).collect();
    let half_as_f32: Vec<f32> = wh.iter().map(|w| w.to_f32()).collect();
    let cases = [
        (Weights::F32(&as_f32), &as_f32),
        (Weights::Bf16(&w16), &as_f32),
        (Weights::F16(&wh), &half_as_f32),
    ];
    for (weights, reference) in cases {
        for bias in [None, Some(&bias[..])] {
            let y = everywhere(&format!("linear {t} {n} {k}"), || {
                let mut y = vec![f32::NAN; t * n];
                cpu::linear(&x, weights, [n, k], bias, &mut y);
                y
            });
            for i in 0..t {
                for j in 0..n {
                    let (x, w) = (&x[i * k..][..k], &reference[j * k..][..k]);
                    let b = bias.map_or(0.0, |b| b[j]);
                    let expected = if bias.is_some() { dot(x, w) + b } else { dot(x, w) };
                    assert_eq!(y[i * n + j].to_bits(), expected.to_bits(), "{t} {n} {k}");
                    let exact: f64 =
                        x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let size: f64 = x.iter().zip(w).map(|(a, b)| f64::from((a * b).abs())).sum();
                    let error = (f64::from(y[i * n + j]) - exact - f64::from(b)).abs();
                    let bound = (k as f64 / 16.0 + 6.0) * 6e-8 * (size + f64::from(b.abs()));
                    assert!(error <= bound, "{t} {n} {k}: error {error} above {bound}");
                }
            }
        }
    }
}

#[test]
fn linear_is_the_specified_dot_product_everywhere() {
    let mut rng = Rng(1);
    for k in SHAPES {
        for (t, n) in
            [(1, 65), (2, 17), (3, 5), (7, 16), (23, 3), (24, 9), (65, 65), (0, 3), (3, 0)]
        {
            check_linear(t, n, k, &mut rng);
        }
    }
    for t in SHAPES {
        check_linear(t, 15, 33, &mut rng);
    }
    for n in SHAPES {
        check_linear(1, n, 48, &mut rng);
        check_linear(26, n, 48, &mut rng);
    }
    check_linear(25, 9, 2500, &mut rng);
}

/// Where packed panels take over: tokens, rows and columns that fill no tile.
#[test]
fn many_tokens_are_the_specified_dot_product_everywhere() {
    let mut rng = Rng(11);
    for k in [1, 15, 16, 17, 100, 300] {
        for (t, n) in [(23, 33), (24, 17), (25, 1), (47, 17), (48, 15), (50, 33), (75, 100)] {
            check_linear(t, n, k, &mut rng);
        }
    }
    check_linear(513, 17, 260, &mut rng);
    check_linear(50, 17, 4100, &mut rng);
    // Two pieces of K, the second one shorter and with a partial vector.
    check_linear(50, 3, 8200, &mut rng);
}

/// Zeros of both signs, sums that underflow to one, infinities and NaN, in whole and partial vectors.
#[test]
fn many_tokens_keep_what_is_special() {
    let special =
        [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let mut rng = Rng(12);
    for (rare, k) in [(40, 33), (400, 300), (4000, 1000), (7, 15), (3, 1)] {
        let (t, n) = (59, 35);
        let mut some = |len: usize| -> Vec<f32> {
            let mut pick = |x: f32| match rng.next() % rare {
                0 => special[rng.next() as usize % special.len()],
                1 => x * 1e-25,
                _ => x,
            };
            (0..len).map(|i| pick(i as f32 % 7.0 - 3.0)).collect()
        };
        let (x, w, bias) = (some(t * k), some(n * k), some(n));
        let w16: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
        let wide: Vec<f32> = w16.iter().map(|w| w.to_f32()).collect();
        for (weights, reference) in [(Weights::F32(&w), &w), (Weights::Bf16(&w16), &wide)] {
            let y = everywhere(&format!("special {t} {n} {k}"), || {
                let mut y = vec![0.0; t * n];
                cpu::linear(&x, weights, [n, k], Some(&bias), &mut y);
                y.iter().map(|y| if y.is_nan() { f32::NAN } else { *y }).collect()
            });
            for (i, y) in y.into_iter().enumerate() {
                let expected =
                    dot(&x[i / n * k..][..k], &reference[i % n * k..][..k]) + bias[i % n];
                let same = y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan();
                assert!(same, "{t} {n} {k} [{i}]: {y} and {expected}");
            }
        }
    }
}

#[test]
fn a_row_of_linear_does_not_depend_on_the_batch() {
    let mut rng = Rng(2);
    // The packed activations of all tokens do not fit one pass of the last shape.
    for (t, n, k) in [(40, 67, 1500), (131, 67, 1500), (530, 20, 70), (1060, 3, 4100)] {
        check_batches([t, n, k], &mut rng);
    }
}

fn check_batches([t, n, k]: [usize; 3], rng: &mut Rng) {
    let x = rng.vec(t * k);
    let w: Vec<bf16> = rng.vec(n * k).into_iter().map(bf16::from_f32).collect();
    let mut all = vec![0.0; t * n];
    cpu::linear(&x, Weights::Bf16(&w), [n, k], None, &mut all);
    for rows in [1, 2, 5, 7, 23, 24, 25, 47, 48, 49, 130, 513] {
        for i in (0..t.saturating_sub(rows)).step_by(rows) {
            let mut some = vec![0.0; rows * n];
            cpu::linear(&x[i * k..][..rows * k], Weights::Bf16(&w), [n, k], None, &mut some);
            assert_eq!(bits(&some), bits(&all[i * n..][..rows * n]), "{rows} rows from {i}");
        }
    }
}

#[test]
fn norms_match_f64() {
    let mut rng = Rng(3);
    for t in [0, 1, 3, 65] {
        for d in SHAPES.into_iter().chain([4096]) {
            let (x, weight, residual) = (rng.vec(t * d), rng.vec(d), rng.vec(t * d));
            let y = everywhere(&format!("rms_norm {t} {d}"), || {
                let mut y = vec![f32::NAN; t * d];
                cpu::rms_norm(&x, &weight, 1e-5, &mut y);
                y
            });
            let sum = everywhere(&format!("rms_norm_add {t} {d}"), || {
                let mut y = vec![f32::NAN; t * d];
                cpu::rms_norm_add(&x, &weight, 1e-5, &residual, &mut y);
                y
            });
            for i in 0..t * d {
                let row = &x[i / d * d..][..d];
                let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / d as f64;
                let exact = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i % d]);
                let size = exact.abs() + 1e-30;
                assert!((f64::from(y[i]) - exact).abs() <= 1e-6 * size, "{t} {d} {i}");
                let exact = f64::from(residual[i]) + exact;
                let size = size + f64::from(residual[i].abs());
                assert!((f64::from(sum[i]) - exact).abs() <= 1e-6 * size, "{t} {d} {i}");
            }
        }
    }
}

#[test]
fn swiglu_matches_f64_and_keeps_the_limits() {
    let mut rng = Rng(4);
    for t in [0, 1, 3, 17] {
        for f in SHAPES.into_iter().chain([9000]) {
            let gate_up: Vec<f32> = rng.vec(t * f * 2).into_iter().map(|x| x * 12.0).collect();
            let y = everywhere(&format!("swiglu {t} {f}"), || {
                let mut y = vec![f32::NAN; t * f];
                cpu::swiglu(&gate_up, f, &mut y);
                y
            });
            for i in 0..t * f {
                let gate = f64::from(gate_up[i / f * 2 * f + i % f]);
                let up = f64::from(gate_up[i / f * 2 * f + f + i % f]);
                let exact = gate / (1.0 + (-gate).exp()) * up;
                assert!((f64::from(y[i]) - exact).abs() <= 4e-7 * exact.abs(), "{t} {f} {i}");
            }
        }
    }
    let gate = [0.0, 200.0, -200.0, f32::INFINITY, f32::NAN, -87.0, -0.0, 1e-40];
    let gate_up: Vec<f32> = gate.into_iter().chain([1.0; 8]).collect();
    let y = everywhere("limits", || {
        let mut y = vec![0.0; 8];
        cpu::swiglu(&gate_up, 8, &mut y);
        y.iter().map(|y| if y.is_nan() { f32::NAN } else { *y }).collect()
    });
    assert_eq!(&y[..4], &[0.0, 200.0, 0.0, f32::INFINITY]);
    assert!(y[4].is_nan());
}

#[test]
fn rotary_rotates_pairs_and_leaves_the_rest() {
    let mut rng = Rng(5);
    for (t, heads, d, r) in [
        (1, 4, 64, 32),
        (3, 2, 20, 20),
        (65, 3, 128, 64),
        (2, 1, 7, 2),
        (9, 2, 8, 0),
        (600, 4, 64, 34),
    ] {
        let x = rng.vec(t * heads * d);
        let angles: Vec<f32> = rng.vec(t * r / 2).into_iter().map(|a| a * 3.0).collect();
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let y = everywhere("rotary", || {
            let mut y = x.clone();
            cpu::rotary(&mut y, heads, d, r, &cos, &sin);
            y
        });
        for i in 0..y.len() {
            let (row, j) = (i / (heads * d), i % d);
            if j >= r {
                assert_eq!(y[i].to_bits(), x[i].to_bits());
                continue;
            }
            let (c, s) = (f64::from(cos[row * r / 2 + j / 2]), f64::from(sin[row * r / 2 + j / 2]));
            let other = f64::from(x[i - j + (j ^ 1)]);
            let exact = f64::from(x[i]) * c + if j % 2 == 0 { -other * s } else { other * s };
            assert!((f64::from(y[i]) - exact).abs() < 2e-7, "{i}");
        }
    }
}

#[test]
fn conversions_are_those_of_the_half_crate() {
    let mut rng = Rng(6);
    let special = [
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        65504.0,
        65520.0,
        1e-7,
        6e-8,
        3e-8,
        3.3e38,
        1e-40,
    ];
    for len in SHAPES.into_iter().chain([70_000]) {
        let mut x: Vec<f32> = (0..len).map(|_| f32::from_bits(rng.next() as u32)).collect();
        x.retain(|x| !x.is_nan());
        x.extend(special.iter().take(len));
        let half = everywhere("to f16", || {
            let mut y = vec![f16::NAN; x.len()];
            cpu::convert_from_f32(&x, KvSliceMut::F16(&mut y));
            assert!(y.iter().zip(&x).all(|(y, x)| y.to_bits() == f16::from_f32(*x).to_bits()));
            let mut back = vec![0.0; x.len()];
            cpu::convert_to_f32(Weights::F16(&y), &mut back);
            back
        });
        assert!(
            half.iter().zip(&x).all(|(h, x)| h.to_bits() == f16::from_f32(*x).to_f32().to_bits())
        );
        let brain = everywhere("to bf16", || {
            let mut y = vec![bf16::NAN; x.len()];
            cpu::convert_from_f32(&x, KvSliceMut::Bf16(&mut y));
            let mut back = vec![0.0; x.len()];
            cpu::convert_to_f32(Weights::Bf16(&y), &mut back);
            back
        });
        assert!(
            brain.iter().zip(&x).all(|(h, x)| h.to_bits() == bf16::from_f32(*x).to_f32().to_bits())
        );
    }
    let mut y = [bf16::ZERO; 17];
    for isa in Isa::available() {
        isa.run(|| cpu::convert_from_f32(&[f32::NAN; 17], KvSliceMut::Bf16(&mut y)));
        assert!(y.iter().all(|y| y.is_nan()), "{}", isa.name());
    }
}

#[test]
fn every_half_widens_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|h| !h.is_nan()).collect();
    for isa in Isa::available() {
        let mut wide = vec![0.0; all.len()];
        isa.run(|| cpu::convert_to_f32(Weights::F16(&all), &mut wide));
        assert!(
            all.iter().zip(&wide).all(|(h, w)| h.to_f32().to_bits() == w.to_bits()),
            "{}",
            isa.name()
        );
    }
}

#[test]
fn gather_rows_copies_embeddings() {
    let mut rng = Rng(7);
    for d in [1, 16, 33] {
        let w: Vec<bf16> = rng.vec(10 * d).into_iter().map(bf16::from_f32).collect();
        let ids = [3u32, 0, 9, 3];
        let out = everywhere("gather_rows", || {
            let mut out = vec![0.0; ids.len() * d];
            cpu::gather_rows(Weights::Bf16(&w), d, &ids, &mut out);
            out
        });
        for (i, id) in ids.iter().enumerate() {
            for j in 0..d {
                assert_eq!(out[i * d + j], w[*id as usize * d + j].to_f32());
            }
        }
    }
}
