//! The matrix product on every instruction set and several thread counts: against f64, and bit for
//! bit against the specification.

use half::{bf16, f16};
use lightglm_kernels::cpu::{Isa, MatrixRef, Weights, product, product_to_vec, team};
use random::Rng;

mod random;

const SIZES: [usize; 8] = [0, 1, 3, 8, 63, 64, 65, 257];

/// A matrix `[rows, columns]`, and the same numbers in some precision, order and stride.
struct Operand {
    rows: usize,
    columns: usize,
    /// Row-major.
    exact: Vec<f32>,
    transposed: bool,
    stride: usize,
    stored: Stored,
}

enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Operand {
    fn new(rng: &mut Rng, [rows, columns]: [usize; 2], case: u64) -> Self {
        let transposed = case.is_multiple_of(2);
        let precision = case / 2 % 3;
        let (outer, inner) = if transposed { (columns, rows) } else { (rows, columns) };
        let stride = inner + if case / 6 % 2 == 1 { 5 } else { 0 };
        let values: Vec<f32> = rng.vec(outer * stride);
        let (stored, widened): (_, Vec<f32>) = match precision {
            0 => (Stored::F32(values.clone()), values),
            1 => {
                let half: Vec<_> = values.iter().copied().map(f16::from_f32).collect();
                let widened = half.iter().map(|x| x.to_f32()).collect();
                (Stored::F16(half), widened)
            }
            _ => {
                let half: Vec<_> = values.iter().copied().map(bf16::from_f32).collect();
                let widened = half.iter().map(|x| x.to_f32()).collect();
                (Stored::Bf16(half), widened)
            }
        };
        let at = |row: usize, column: usize| match transposed {
            true => widened[column * stride + row],
            false => widened[row * stride + column],
        };
        let exact = (0..rows * columns).map(|i| at(i / columns, i % columns)).collect();
        Self { rows, columns, exact, transposed, stride, stored }
    }

    fn matrix(&self) -> MatrixRef<'_> {
        let data = match &self.stored {
            Stored::F32(x) => Weights::F32(x),
            Stored::F16(x) => Weights::F16(x),
            Stored::Bf16(x) => Weights::Bf16(x),
        };
        match self.transposed {
            true => {
                let shape = [self.columns, self.rows];
                MatrixRef::with_stride(data, shape, self.stride).transposed()
            }
            false => MatrixRef::with_stride(data, [self.rows, self.columns], self.stride),
        }
    }
}

/// The specification: each element one chain of fused multiply-adds.
fn specified(a: &Operand, b: &Operand, start: &[f32]) -> Vec<f32> {
    let mut c = start.to_vec();
    for (i, row) in c.chunks_mut(b.columns.max(1)).enumerate() {
        for k in 0..a.columns {
            let factor = a.exact[i * a.columns + k];
            for (c, b) in row.iter_mut().zip(&b.exact[k * b.columns..]) {
                *c = factor.mul_add(*b, *c);
            }
        }
    }
    c
}

fn check(rng: &mut Rng, [m, n, k]: [usize; 3], cases: [u64; 2]) {
    let what = format!("{m}x{n}x{k}, cases {cases:?}");
    let a = Operand::new(rng, [m, k], cases[0]);
    let b = Operand::new(rng, [k, n], cases[1]);
    let start = rng.vec(m * n);
    let accumulate = (cases[0] + cases[1]).is_multiple_of(3);
    let zeros = vec![0.0; m * n];
    let expected = specified(&a, &b, if accumulate { &start } else { &zeros });
    for isa in Isa::available() {
        for threads in [1, 2, 5] {
            team::set_num_threads(threads);
            let mut c = start.clone();
            isa.run(|| product(a.matrix(), b.matrix(), &mut c, accumulate));
            let wrong = c.iter().zip(&expected).position(|(c, e)| c.to_bits() != e.to_bits());
            let name = isa.name();
            if !accumulate {
                assert_eq!(isa.run(|| product_to_vec(a.matrix(), b.matrix())), c, "{what}: {name}");
            }
            assert_eq!(wrong, None, "{what}: {name} with {threads} threads");
        }
    }
    for i in 0..m * n {
        let (row, column) = (i / n, i % n);
        let terms =
            (0..k).map(|k_| f64::from(a.exact[row * k + k_]) * f64::from(b.exact[k_ * n + column]));
        let base = if accumulate { f64::from(start[i]) } else { 0.0 };
        let (sum, size) = terms.fold((base, base.abs()), |(s, z), t| (s + t, z + t.abs()));
        // One rounding a term, relative to the sum of magnitudes; roundings mostly cancel.
        let tolerance = size * (k as f64 + 1.0).sqrt() * 1.2e-7;
        let error = (f64::from(expected[i]) - sum).abs();
        assert!(error <= tolerance, "{what}[{i}]: {error} off, {tolerance} allowed");
    }
}

/// All sizes in each place, with a rotating choice of layouts and precisions.
#[test]
fn awkward_shapes() {
    let mut rng = Rng(1);
    let mut case = 0;
    for m in SIZES {
        for n in SIZES {
            for k in SIZES {
                if m * n * k > 65 * 65 * 257 || (m + n + k) % 2 == 1 && m * n * k > 64 * 64 * 8 {
                    continue;
                }
                case += 1;
                check(&mut rng, [m, n, k], [case % 12, case * 7 / 12 % 12]);
            }
        }
    }
}

/// Every layout, precision and stride of `A` with every one of `B`.
#[test]
fn every_layout() {
    let mut rng = Rng(2);
    for a in 0..12 {
        for b in 0..12 {
            check(&mut rng, [19, 37, 21], [a, b]);
        }
    }
}

/// Several blocks of rows, of terms and of columns, and groups of them.
#[test]
fn many_blocks() {
    let mut rng = Rng(3);
    check(&mut rng, [301, 530, 517], [1, 0]);
    check(&mut rng, [157, 290, 700], [0, 7]);
    check(&mut rng, [13, 2100, 1100], [1, 2]);
    check(&mut rng, [7, 4500, 270], [0, 1]);
}

#[test]
#[should_panic(expected = "a has 2 columns, but b 3 rows")]
fn shapes_must_agree() {
    let x = [0.0; 6];
    let a = MatrixRef::new(Weights::F32(&x), [3, 2]);
    product(a, a, &mut [0.0; 6], false);
}

#[test]
#[should_panic(expected = "end after 6 elements")]
fn rows_must_lie_in_the_data() {
    let _ = MatrixRef::with_stride(Weights::F32(&[0.0; 6]), [3, 2], 3);
}
