//! Attention over eight-bit codes: against f64 on the dequantized codes, and bit for bit across
//! instruction sets, threads, the way a prompt is cut, and the order of blocks.

use lightglm_kernels::cpu::{
    AttentionShape, AttentionSpan, Int8Pool, Int8PoolMut, Isa, append_kv_int8, attention_int8,
    rotate_head, team,
};

/// Weights are rounded to 14 bits of their chunk's largest (3e-5 of a value each), queries to 16.
const TOLERANCE: f64 = 5e-4;
/// Keys are rounded to 8 bits on different grids with and without rotation.
const ROTATION_TOLERANCE: f32 = 0.05;
const SCALE: f32 = 0.3;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// A head's codes and scale, by the definition.
fn dequantized(head: &[f32]) -> Vec<f32> {
    let most = head.iter().fold(0f32, |m, x| m.max(x.abs()));
    let scale = if most == 0.0 { 1.0 } else { most / 127.0 };
    head.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) * scale).collect()
}

struct Case {
    shape: AttentionShape,
    tokens: usize,
    rotate_keys: bool,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    fn new(heads: usize, kv_heads: usize, head_dim: usize, tokens: usize, rotate: bool) -> Self {
        let kv = tokens * kv_heads * head_dim;
        Self {
            shape: AttentionShape { heads, kv_heads, head_dim },
            tokens,
            rotate_keys: rotate,
            q: numbers(1, tokens * heads * head_dim),
            k: numbers(2, kv),
            v: numbers(3, kv),
        }
    }

    /// Appends and attends piece by piece, in steps of `step` tokens.
    fn run(&self, step: usize, reversed_blocks: bool) -> Vec<f32> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let blocks = self.tokens.div_ceil(16) + 2;
        let mut table: Vec<u32> = (1..blocks as u32).collect();
        if reversed_blocks {
            table.reverse();
        }
        let scales = blocks * kv_heads * 16;
        let codes = scales * head_dim.next_multiple_of(4);
        // What was never written must not matter.
        let (mut key_codes, mut value_codes) = (vec![-128; codes], vec![-128; codes]);
        let (mut key_scales, mut value_scales) = (vec![f32::NAN; scales], vec![f32::NAN; scales]);
        let rotate_keys = self.rotate_keys;
        let mut out = vec![f32::NAN; self.q.len()];
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        for past in (0..self.tokens).step_by(step) {
            let rows = step.min(self.tokens - past);
            let spans = [AttentionSpan { first_row: 0, rows, past, block_table: &table }];
            let range = past * kv_width..(past + rows) * kv_width;
            let pool = Int8PoolMut {
                key_codes: &mut key_codes,
                key_scales: &mut key_scales,
                value_codes: &mut value_codes,
                value_scales: &mut value_scales,
                rotate_keys,
            };
            append_kv_int8(&self.k[range.clone()], &self.v[range], self.shape, &spans, pool);
            let pool = Int8Pool {
                key_codes: &key_codes,
                key_scales: &key_scales,
                value_codes: &value_codes,
                value_scales: &value_scales,
                rotate_keys,
            };
            let range = past * q_width..(past + rows) * q_width;
            attention_int8(
                &self.q[range.clone()],
                self.shape,
                SCALE,
                &spans,
                pool,
                &mut out[range],
            );
        }
        out
    }

    fn exact(&self, row: usize, head: usize) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let kv_head = head / (heads / kv_heads);
        let of = |x: &[f32], row: usize, heads: usize, head: usize| -> Vec<f32> {
            x[(row * heads + head) * head_dim..][..head_dim].to_vec()
        };
        let rotated = |mut head: Vec<f32>| {
            if self.rotate_keys {
                rotate_head(&mut head);
            }
            head
        };
        let q = rotated(of(&self.q, row, heads, head));
        let scores: Vec<f64> = (0..=row)
            .map(|p| {
                let k = dequantized(&rotated(of(&self.k, p, kv_heads, kv_head)));
                let dot: f64 = q.iter().zip(&k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                dot * f64::from(SCALE)
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let mut out = vec![0.0; head_dim];
        for (p, s) in scores.iter().enumerate() {
            let v = dequantized(&of(&self.v, p, kv_heads, kv_head));
            for (o, v) in out.iter_mut().zip(v) {
                *o += (s - max).exp() / sum * f64::from(v);
            }
        }
        out
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn check(case: &Case, steps: &[usize]) {
    let expected = Isa::available()[0].run(|| case.run(case.tokens, false));
    let (shape, rotated) = (case.shape, case.rotate_keys);
    let AttentionShape { heads, head_dim, .. } = shape;
    for row in (0..case.tokens).step_by(1 + case.tokens / 12) {
        for head in 0..heads {
            let actual = &expected[(row * heads + head) * head_dim..][..head_dim];
            for (a, e) in actual.iter().zip(case.exact(row, head)) {
                let near = (f64::from(*a) - e).abs() < TOLERANCE;
                assert!(near, "{shape:?} {rotated} row {row} head {head}: {a} {e}");
            }
        }
    }
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            team::set_num_threads(threads);
            for &step in steps {
                let actual = isa.run(|| case.run(step, threads == 2));
                let same = bits(&actual) == bits(&expected);
                assert!(same, "{shape:?} {} step {step} threads {threads}", isa.name());
            }
        }
    }
}

#[test]
fn head_dims_and_groups() {
    for (heads, kv_heads, head_dim) in [
        (2, 1, 1),
        (3, 1, 2),
        (2, 2, 3),
        (4, 2, 8),
        (5, 1, 63),
        (16, 2, 64),
        (9, 1, 65),
        (3, 3, 80),
        (12, 1, 128),
    ] {
        for rotate in [false, true] {
            check(&Case::new(heads, kv_heads, head_dim, 37, rotate), &[37, 1, 5, 16]);
        }
    }
}

#[test]
fn lengths_around_blocks_and_chunks() {
    for tokens in [1, 15, 16, 17, 65, 257] {
        check(&Case::new(4, 2, 16, tokens, false), &[tokens, 1, 7, 100]);
    }
    check(&Case::new(16, 2, 32, 600, true), &[600, 255, 64]);
}

#[test]
fn rotation_changes_rounding_alone() {
    let (plain, rotated) = (Case::new(4, 2, 64, 90, false), Case::new(4, 2, 64, 90, true));
    let (plain, rotated) = (plain.run(90, false), rotated.run(90, false));
    assert_ne!(bits(&plain), bits(&rotated));
    for (p, r) in plain.iter().zip(&rotated) {
        assert!((p - r).abs() < ROTATION_TOLERANCE, "{p} against {r}");
    }
}

#[test]
fn a_number_that_is_not_finite_is_not_hidden() {
    for (bad, in_keys) in [(f32::NAN, true), (f32::INFINITY, false), (f32::NAN, false)] {
        let mut case = Case::new(2, 1, 8, 20, false);
        let x = if in_keys { &mut case.k } else { &mut case.v };
        x[5 * 8 + 3] = bad;
        let out = case.run(20, false);
        let width = 2 * 8;
        assert!(out[..5 * width].iter().all(|x| x.is_finite()));
        assert!(out[5 * width..].iter().all(|x| x.is_nan()), "{bad} in keys {in_keys}");
    }
}

/// The largest sums there are: every code of queries and keys at its end, in heads around the length at
/// which they no longer fit 32 bits.
#[test]
fn the_largest_sums_do_not_overflow() {
    for head_dim in [508, 512, 516, 1024, 1040] {
        let mut case = Case::new(2, 1, head_dim, 3, false);
        case.q.fill(1.0);
        for (token, k) in case.k.chunks_exact_mut(head_dim).enumerate() {
            k.fill(if token == 1 { 1.0 } else { -1.0 });
        }
        let expected = Isa::available()[0].run(|| bits(&case.run(1, false)));
        for isa in Isa::available() {
            assert_eq!(
                isa.run(|| bits(&case.run(1, false))),
                expected,
                "{} {head_dim}",
                isa.name()
            );
        }
        // The last token looks at the one key that is like it.
        let last = &case.run(1, false)[2 * 2 * head_dim..][..head_dim];
        for (o, v) in last.iter().zip(case.exact(2, 0)) {
            assert!((f64::from(*o) - v).abs() < TOLERANCE, "{head_dim}: {o} and {v}");
        }
    }
}
