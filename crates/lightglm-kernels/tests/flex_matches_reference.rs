//! The burn-flex kernels against the plain burn bodies they replace.

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{KV_BLOCK, KvLayer};
use lightglm_kernels::{AttentionShape, AttentionSpan, LmBackend, reference};

/// Sums of a few hundred products of numbers near 1, in another order.
const TOLERANCE: f32 = 2e-4;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().to_vec().expect("f32")
}

fn assert_close<const D: usize>(actual: Tensor<Flex, D>, expected: Tensor<Flex, D>, what: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    for (i, (a, e)) in values(actual).into_iter().zip(values(expected)).enumerate() {
        assert!((a - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}: [{i}] {a} against {e}");
    }
}

#[test]
fn projections_in_every_precision() {
    for (t, k, n) in [(1, 64, 48), (3, 65, 7), (17, 16, 257), (64, 257, 33), (5, 1, 1)] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = random([t, k]);
            let weight = random([n, k]).cast(dtype);
            let bias = random([n]);
            let what = format!("{t}x{k}x{n} {dtype:?}");
            assert_close(
                Flex::project(x.clone(), weight.clone(), Some(bias.clone())),
                reference::project(x.clone(), weight.clone(), Some(bias)),
                &what,
            );
            assert_close(
                Flex::project(x.clone(), weight.clone(), None),
                reference::project(x, weight, None),
                &what,
            );
        }
    }
}

#[test]
fn a_transposed_view_is_a_matrix_too() {
    let (x, weight) = (random([4, 24]), random([24, 40]).transpose());
    let expected = reference::project(x.clone(), weight.clone(), None);
    assert_close(Flex::project(x, weight, None), expected, "transposed weight");
    let (x, weight) = (random([24, 4]).transpose(), random([40, 24]));
    let expected = reference::project(x.clone(), weight.clone(), None);
    assert_close(Flex::project(x, weight, None), expected, "transposed x");
}

#[test]
fn embeddings_in_every_precision() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let weight = random([11, 37]).cast(dtype);
        let ids = [10, 0, 3, 3];
        assert_close(
            Flex::embed(weight.clone(), &ids),
            reference::embed(weight, &ids),
            &format!("{dtype:?}"),
        );
    }
}

#[test]
fn norms_activations_and_rotation() {
    for (t, d) in [(1, 64), (3, 37), (130, 16)] {
        let (x, weight, residual) = (random([t, d]), random([d]), random([t, d]));
        let expected = reference::rms_norm(x.clone(), weight.clone(), 1e-5);
        assert_close(Flex::rms_norm(x.clone(), weight.clone(), 1e-5), expected.clone(), "norm");
        assert_close(
            Flex::rms_norm_add(x, weight, 1e-5, residual.clone()),
            residual + expected,
            "norm and add",
        );
        let gate_up = random([t, 2 * d]) * 4.0;
        assert_close(Flex::swiglu(gate_up.clone()), reference::swiglu(gate_up), "swiglu");
    }
    for (t, heads, head_dim, pairs) in [(1, 2, 16, 4), (9, 3, 20, 10), (40, 16, 64, 16)] {
        let x = random([t, heads * head_dim]);
        let (cos, sin) = (random([t, pairs]), random([t, pairs]));
        let kept = x.clone();
        assert_close(
            Flex::rotary(x.clone(), cos.clone(), sin.clone(), head_dim),
            reference::rotary(x.clone(), cos, sin, head_dim),
            "rotary",
        );
        assert_close(x, kept, "rotary leaves a shared tensor alone");
    }
}

fn pool(blocks: usize, shape: AttentionShape, dtype: DType) -> KvLayer<Flex> {
    let (g, d) = (shape.kv_heads, shape.head_dim);
    // What unused slots hold must not matter.
    let nan = |dims| Tensor::full(dims, f32::NAN, (&FlexDevice, dtype));
    KvLayer { keys: nan([blocks, g, d, KV_BLOCK]), values: nan([blocks, g, KV_BLOCK, d]) }
}

#[test]
fn attention_over_any_blocks() {
    for (heads, kv_heads, head_dim) in [(4, 2, 16), (6, 1, 20), (8, 8, 64), (16, 2, 128)] {
        let shape = AttentionShape { heads, kv_heads, head_dim };
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            // Blocks in no order; 40 and 5 positions after prompts, then one more each.
            let tables = [vec![7, 2, 5], vec![1, 0]];
            let (mut fast, mut slow) = (pool(8, shape, dtype), pool(8, shape, dtype));
            for (rows, past) in [([40, 5], [0, 0]), ([1, 1], [40, 5]), ([7, 20], [41, 6])] {
                let spans = [0, 1].map(|i| AttentionSpan {
                    first_row: if i == 0 { 0 } else { rows[0] },
                    rows: rows[i],
                    past: past[i],
                    block_table: &tables[i],
                });
                let t = rows[0] + rows[1];
                let q = random([t, heads * head_dim]);
                // burn-flex casts f32 through f64 to bf16, and half drops three bits on that way, so
                // near-ties round otherwise than here: use numbers that need no rounding.
                let exact = |x: Tensor<Flex, 2>| x.cast(dtype).cast(DType::F32);
                let k = exact(random([t, kv_heads * head_dim]));
                let v = exact(random([t, kv_heads * head_dim]));
                let actual =
                    Flex::attend_cached(q.clone(), k.clone(), v.clone(), &mut fast, shape, &spans);
                reference::append(k, v, &mut slow, shape, &spans);
                let expected = reference::attend_cached(q, &slow, shape, &spans);
                assert_close(actual, expected, &format!("{heads}/{kv_heads}x{head_dim} {dtype:?}"));
            }
        }
    }
}

#[test]
fn uncached_attention_is_causal_within_a_span() {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16 };
    let spans = [(0, 19), (19, 1), (20, 33)].map(|(first_row, rows)| AttentionSpan {
        first_row,
        rows,
        past: 0,
        block_table: &[],
    });
    let (q, k, v) = (random([53, 64]), random([53, 32]), random([53, 32]));
    let expected = reference::attend(q.clone(), k.clone(), v.clone(), shape, &spans);
    assert_close(Flex::attend(q, k, v, shape, &spans), expected, "uncached");
}
