//! The burn-flex kernels against the plain burn bodies they replace.

use burn::tensor::{DType, Distribution, Int, Tensor};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{FloatKvLayer, Int8KvLayer, KV_BLOCK, KvLayer};
use lightglm_kernels::{AttentionShape, AttentionSpan, LmBackend, reference};

/// Sums of a few hundred products of numbers near 1, in another order.
const TOLERANCE: f32 = 2e-4;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().to_vec().expect("f32")
}

/// Softmax weights rounded to 14 bits of the largest: 3e-5 of the values each, over 60 positions.
const INT8_TOLERANCE: f32 = 1e-3;

fn assert_close<const D: usize>(actual: Tensor<Flex, D>, expected: Tensor<Flex, D>, what: &str) {
    assert_within(TOLERANCE, actual, expected, what);
}

fn assert_within<const D: usize>(
    tolerance: f32,
    actual: Tensor<Flex, D>,
    expected: Tensor<Flex, D>,
    what: &str,
) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    for (i, (a, e)) in values(actual).into_iter().zip(values(expected)).enumerate() {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "{what}: [{i}] {a} against {e}");
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
    let (keys, values) = (nan([blocks, g, d, KV_BLOCK]), nan([blocks, g, KV_BLOCK, d]));
    KvLayer::Float(FloatKvLayer { keys, values })
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

/// A pool of codes whose unused slots are as bad as they can be.
fn int8_pool(blocks: usize, shape: AttentionShape, rotate_keys: bool) -> Int8KvLayer<Flex> {
    let zeros =
        Int8KvLayer::zeros([blocks, shape.kv_heads, shape.head_dim], rotate_keys, &FlexDevice);
    Int8KvLayer {
        key_codes: zeros.key_codes.full_like(-128),
        key_scales: zeros.key_scales.full_like(f32::NAN),
        value_codes: zeros.value_codes.full_like(-128),
        value_scales: zeros.value_scales.full_like(f32::NAN),
        rotate_keys,
    }
}

/// The kernel quantizes as the plain body does, to the bit, and attends to the same codes; what it
/// rounds beyond that (queries to 16 bits, weights to 14) is within the tolerance.
#[test]
fn int8_attention_over_any_blocks() {
    for (heads, kv_heads, head_dim) in [(4, 2, 16), (6, 1, 20), (8, 8, 64), (3, 3, 7), (16, 2, 128)]
    {
        let shape = AttentionShape { heads, kv_heads, head_dim };
        for rotate_keys in [false, true] {
            let tables = [vec![7, 2, 5], vec![1, 0]];
            let pool = || KvLayer::Int8(int8_pool(8, shape, rotate_keys));
            let (mut fast, mut slow) = (pool(), pool());
            for (rows, past) in [([40, 5], [0, 0]), ([1, 1], [40, 5]), ([7, 20], [41, 6])] {
                let spans = [0, 1].map(|i| AttentionSpan {
                    first_row: if i == 0 { 0 } else { rows[0] },
                    rows: rows[i],
                    past: past[i],
                    block_table: &tables[i],
                });
                let t = rows[0] + rows[1];
                let q = random([t, heads * head_dim]);
                let (k, v) = (random([t, kv_heads * head_dim]), random([t, kv_heads * head_dim]));
                let actual =
                    Flex::attend_cached(q.clone(), k.clone(), v.clone(), &mut fast, shape, &spans);
                reference::append(k, v, &mut slow, shape, &spans);
                let expected = reference::attend_cached(q, &slow, shape, &spans);
                assert_same_pools(&fast, &slow, &tables);
                let what = format!("{heads}/{kv_heads}x{head_dim} rotated {rotate_keys}");
                assert_within(INT8_TOLERANCE, actual, expected, &what);
            }
        }
    }
}

fn assert_same_pools(fast: &KvLayer<Flex>, slow: &KvLayer<Flex>, tables: &[Vec<u32>]) {
    let (KvLayer::Int8(fast), KvLayer::Int8(slow)) = (fast, slow) else { panic!("int8 pools") };
    let bits = |scales: &Tensor<Flex, 3>| {
        let scales: Vec<f32> = scales.to_data().to_vec().expect("f32");
        // Slots that were never written keep the NaN they had.
        scales.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    assert_eq!(bits(&fast.key_scales), bits(&slow.key_scales));
    assert_eq!(bits(&fast.value_scales), bits(&slow.value_scales));
    for &block in tables.iter().flatten() {
        let codes = |codes: &Tensor<Flex, 5, Int>| -> Vec<i8> {
            codes.clone().narrow(0, block as usize, 1).into_data().to_vec().expect("i8")
        };
        assert_eq!(codes(&fast.key_codes), codes(&slow.key_codes));
        assert_eq!(codes(&fast.value_codes), codes(&slow.value_codes));
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

#[test]
fn segments_attend_to_all_of_themselves() {
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (6, 2, 8), (1, 1, 33)] {
        let shape = AttentionShape { heads, kv_heads, head_dim };
        // One is longer than the rows whose scores exist at a time.
        let (segments, t) = ([0..1, 1..20, 20..303], 303);
        let q = random([t, heads * head_dim]);
        let [k, v] = [(); 2].map(|()| random([t, kv_heads * head_dim]));
        let expected =
            reference::attend_segments(q.clone(), k.clone(), v.clone(), shape, &segments);
        let actual = Flex::attend_segments(q.clone(), k.clone(), v.clone(), shape, &segments);
        assert_close(actual.clone(), expected, "segments");
        // A segment's rows do not depend on the others.
        let own = |x: &Tensor<Flex, 2>| x.clone().narrow(0, 1, 19);
        #[expect(clippy::single_range_in_vec_init, reason = "it is one segment")]
        let alone = Flex::attend_segments(own(&q), own(&k), own(&v), shape, &[0..19]);
        assert_eq!(values(alone), values(own(&actual)));
    }
}

#[test]
fn layer_norms_and_gelu() {
    for shape in [[1, 1], [3, 37], [200, 96]] {
        let x = random(shape) * 3.0 + 1.0;
        let (weight, bias) = (random([shape[1]]), random([shape[1]]));
        let expected = reference::layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-5);
        assert_close(Flex::layer_norm(x.clone(), weight, bias, 1e-5), expected, "layer norm");
        assert_close(Flex::gelu(x.clone()), reference::gelu(x), "gelu");
    }
}
