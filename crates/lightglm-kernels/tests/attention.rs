//! Attention and the KV pool: against f64, and bit for bit across instruction sets, threads, the way
//! a prompt is cut, and the order of blocks.

use half::{bf16, f16};
use lightglm_kernels::cpu::{
    AttentionShape, AttentionSpan, Isa, KvSlice, KvSliceMut, append_kv, attention, team,
};
use proptest::prelude::*;

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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

/// A pool of one layer, whose unused slots are NaN.
enum Pool {
    F32(Vec<f32>, Vec<f32>),
    F16(Vec<f16>, Vec<f16>),
    Bf16(Vec<bf16>, Vec<bf16>),
}

impl Pool {
    fn new(dtype: Dtype, len: usize) -> Self {
        match dtype {
            Dtype::F32 => Self::F32(vec![f32::NAN; len], vec![f32::NAN; len]),
            Dtype::F16 => Self::F16(vec![f16::NAN; len], vec![f16::NAN; len]),
            Dtype::Bf16 => Self::Bf16(vec![bf16::NAN; len], vec![bf16::NAN; len]),
        }
    }

    fn write(&mut self) -> (KvSliceMut<'_>, KvSliceMut<'_>) {
        match self {
            Self::F32(k, v) => (KvSliceMut::F32(k), KvSliceMut::F32(v)),
            Self::F16(k, v) => (KvSliceMut::F16(k), KvSliceMut::F16(v)),
            Self::Bf16(k, v) => (KvSliceMut::Bf16(k), KvSliceMut::Bf16(v)),
        }
    }

    fn read(&self) -> (KvSlice<'_>, KvSlice<'_>) {
        match self {
            Self::F32(k, v) => (KvSlice::F32(k), KvSlice::F32(v)),
            Self::F16(k, v) => (KvSlice::F16(k), KvSlice::F16(v)),
            Self::Bf16(k, v) => (KvSlice::Bf16(k), KvSlice::Bf16(v)),
        }
    }
}

struct Case {
    shape: AttentionShape,
    dtype: Dtype,
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

const SCALE: f32 = 0.3;

impl Case {
    fn new(shape: AttentionShape, dtype: Dtype, tokens: usize) -> Self {
        let round = |x: Vec<f32>| -> Vec<f32> {
            match dtype {
                Dtype::F32 => x,
                Dtype::F16 => x.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
                Dtype::Bf16 => x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
            }
        };
        let kv = tokens * shape.kv_heads * shape.head_dim;
        Self {
            shape,
            dtype,
            tokens,
            q: numbers(1, tokens * shape.heads * shape.head_dim),
            k: round(numbers(2, kv)),
            v: round(numbers(3, kv)),
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
        let mut pool = Pool::new(self.dtype, blocks * kv_heads * head_dim * 16);
        let mut out = vec![f32::NAN; self.q.len()];
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        for past in (0..self.tokens).step_by(step) {
            let rows = step.min(self.tokens - past);
            let span = AttentionSpan { first_row: 0, rows, past, block_table: &table };
            let range = past * kv_width..(past + rows) * kv_width;
            let (keys, values) = pool.write();
            append_kv(&self.k[range.clone()], &self.v[range], self.shape, &[span], keys, values);
            let range = past * q_width..(past + rows) * q_width;
            let (keys, values) = pool.read();
            let q = &self.q[range.clone()];
            attention(q, self.shape, SCALE, &[span], keys, values, &mut out[range]);
        }
        out
    }

    fn exact(&self, row: usize, head: usize) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let kv_head = head / (heads / kv_heads);
        let at = |x: &[f32], row: usize, heads: usize, head: usize| -> Vec<f64> {
            x[(row * heads + head) * head_dim..][..head_dim].iter().map(|x| f64::from(*x)).collect()
        };
        let q = at(&self.q, row, heads, head);
        let scores: Vec<f64> = (0..=row)
            .map(|p| {
                let k = at(&self.k, p, kv_heads, kv_head);
                q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * f64::from(SCALE)
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let mut out = vec![0.0; head_dim];
        for (p, s) in scores.iter().enumerate() {
            for (o, v) in out.iter_mut().zip(at(&self.v, p, kv_heads, kv_head)) {
                *o += (s - max).exp() / sum * v;
            }
        }
        out
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn check(case: &Case, steps: &[usize]) {
    let expected = Isa::available()[0].run(|| case.run(case.tokens.max(1), false));
    let AttentionShape { heads, head_dim, .. } = case.shape;
    for row in (0..case.tokens).step_by(1 + case.tokens / 24) {
        for head in 0..heads {
            let actual = &expected[(row * heads + head) * head_dim..][..head_dim];
            for (a, e) in actual.iter().zip(case.exact(row, head)) {
                let shape = case.shape;
                assert!(
                    (f64::from(*a) - e).abs() < 2e-6,
                    "{shape:?} row {row} head {head}: {a} {e}"
                );
            }
        }
    }
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            team::set_num_threads(threads);
            for &step in steps {
                let actual = isa.run(|| case.run(step, threads == 2));
                let same = bits(&actual) == bits(&expected);
                assert!(same, "{:?} {} step {step} threads {threads}", case.shape, isa.name());
            }
        }
    }
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim }
}

#[test]
fn head_dims_and_groups() {
    for (heads, kv_heads, head_dim) in [
        (4, 2, 16),
        (8, 1, 20),
        (16, 2, 64),
        (3, 1, 80),
        (2, 2, 128),
        (9, 1, 17),
        (1, 1, 1),
        (16, 1, 65),
        (2, 1, 256),
    ] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            check(&Case::new(shape(heads, kv_heads, head_dim), dtype, 37), &[37, 1, 5, 16]);
        }
    }
}

#[test]
fn lengths_around_blocks_and_chunks() {
    for tokens in [1, 3, 8, 15, 16, 17, 63, 64, 65, 257] {
        check(&Case::new(shape(4, 2, 16), Dtype::Bf16, tokens), &[tokens, 1, 7, 100]);
    }
}

#[test]
fn several_chunks() {
    let case = Case::new(shape(16, 2, 32), Dtype::Bf16, 600);
    check(&case, &[600, 255, 64, 1]);
    let case = Case::new(shape(2, 1, 24), Dtype::F32, 1100);
    check(&case, &[1100, 300, 1]);
}

/// Spans packed in one batch give what each gives alone.
#[test]
fn spans_do_not_see_each_other() {
    let shape = shape(8, 2, 32);
    let (q_width, kv_width) = (8 * 32, 2 * 32);
    let lengths = [(0usize, 5usize), (300, 1), (17, 40), (512, 1), (3, 0)];
    let mut pool = Pool::new(Dtype::F16, 100 * kv_width * 16);
    let mut tables = Vec::new();
    let mut next = 0u32;
    for (past, rows) in lengths {
        let blocks = (past + rows).div_ceil(16) as u32;
        tables.push((next..next + blocks).rev().collect::<Vec<u32>>());
        next += blocks;
        let table = tables.last().expect("just pushed");
        let span = AttentionSpan { first_row: 0, rows: past, past: 0, block_table: table };
        let k = numbers(past as u64, past * kv_width);
        let (keys, values) = pool.write();
        append_kv(&k, &k, shape, &[span], keys, values);
    }
    let total: usize = lengths.iter().map(|l| l.1).sum();
    let (q, k) = (numbers(77, total * q_width), numbers(78, total * kv_width));
    let mut spans = Vec::new();
    let mut row = 0;
    for ((past, rows), table) in lengths.into_iter().zip(&tables) {
        spans.push(AttentionSpan { first_row: row, rows, past, block_table: table });
        row += rows;
    }
    let (keys, values) = pool.write();
    append_kv(&k, &k, shape, &spans, keys, values);
    let (keys, values) = pool.read();
    let mut together = vec![0.0; q.len()];
    attention(&q, shape, SCALE, &spans, keys, values, &mut together);
    for span in &spans {
        let mut alone = vec![0.0; span.rows * q_width];
        let range = span.first_row * q_width..(span.first_row + span.rows) * q_width;
        let one = AttentionSpan { first_row: 0, ..*span };
        attention(&q[range.clone()], shape, SCALE, &[one], keys, values, &mut alone);
        assert_eq!(bits(&alone), bits(&together[range]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape_any_cut(
        kv_heads in 1usize..4, group in 1usize..10, head_dim in 1usize..70, tokens in 1usize..330,
        step in 1usize..330,
    ) {
        let case = Case::new(shape(kv_heads * group, kv_heads, head_dim), Dtype::Bf16, tokens);
        let expected = Isa::available()[0].run(|| case.run(tokens, false));
        prop_assert!(expected.iter().all(|x| x.is_finite()));
        for isa in Isa::available() {
            prop_assert_eq!(bits(&isa.run(|| case.run(step, true))), bits(&expected));
        }
    }
}
