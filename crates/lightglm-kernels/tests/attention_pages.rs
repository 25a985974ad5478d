//! Page selection: the fast path against the plain burn bodies, and exactness within the budget.

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{FloatKvLayer, Int8KvLayer, KvLayer, PageBudget, SelectedKvLayer};
use lightglm_kernels::{AttentionShape, AttentionSpan, LmBackend, reference};

fn random(shape: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn values(x: Tensor<Flex, 2>) -> Vec<f32> {
    x.into_data().to_vec().expect("f32")
}

fn pools(shape: [usize; 3]) -> Vec<(KvLayer<Flex>, f32)> {
    let float = |dtype| KvLayer::Float(FloatKvLayer::zeros(shape, dtype, &FlexDevice));
    let int8 = |rotate| KvLayer::Int8(Int8KvLayer::zeros(shape, rotate, &FlexDevice));
    vec![
        (float(DType::F32), 2e-4),
        (float(DType::BF16), 2e-4),
        (float(DType::F16), 2e-4),
        (int8(false), 1e-3),
        (int8(true), 1e-3),
    ]
}

fn selecting(pool: &KvLayer<Flex>, shape: [usize; 3], positions: usize) -> KvLayer<Flex> {
    let budget = PageBudget { positions };
    KvLayer::Selected(Box::new(SelectedKvLayer::new(pool.clone(), shape, budget, &FlexDevice)))
}

#[test]
fn decode_is_the_reference_and_within_the_budget_the_plain_layer() {
    for (heads, kv_heads, head_dim) in [(4, 2, 64), (6, 2, 37), (3, 3, 5)] {
        let shape = AttentionShape { heads, kv_heads, head_dim };
        let pool_shape = [20, kv_heads, head_dim];
        // Two sequences over one shuffled pool; the second stays within the budget.
        let long: Vec<u32> = [13, 2, 19, 7, 0, 5, 11, 3, 17, 8].to_vec();
        let short: Vec<u32> = [1, 4, 9].to_vec();
        let span = |first_row, rows, past, block_table| AttentionSpan {
            first_row,
            rows,
            past,
            block_table,
        };
        let prefill = [span(0, 150, 0, &long[..]), span(150, 20, 0, &short[..])];
        let decode = [span(0, 1, 150, &long[..]), span(1, 1, 20, &short[..])];
        for (pool, tolerance) in pools(pool_shape) {
            let mut plain = pool.clone();
            let mut fast = selecting(&pool, pool_shape, 64);
            let mut slow = selecting(&pool, pool_shape, 64);
            let mut ample = selecting(&pool, pool_shape, 160);
            for (spans, rows) in [(prefill, 170), (decode, 2)] {
                let q = random([rows, heads * head_dim]);
                // Numbers that need no rounding: near-ties of casts fall otherwise in burn-flex.
                let dtype = match &pool {
                    KvLayer::Float(layer) => layer.keys.dtype(),
                    _ => DType::F32,
                };
                let new = || random([rows, kv_heads * head_dim]).cast(dtype).cast(DType::F32);
                let (k, v) = (new(), new());
                let run = |layer: &mut KvLayer<Flex>| {
                    let (q, k, v) = (q.clone(), k.clone(), v.clone());
                    values(Flex::attend_cached(q, k, v, layer, shape, &spans))
                };
                let exact = run(&mut plain);
                assert_eq!(exact, run(&mut ample), "budget covers the context");
                let selected = run(&mut fast);
                let width = heads * head_dim;
                if rows == 2 {
                    assert_ne!(exact[..width], selected[..width], "nothing was left out");
                    assert_eq!(exact[width..], selected[width..], "short context");
                } else {
                    assert_eq!(exact, selected, "prefill");
                }
                reference::append(k.clone(), v.clone(), &mut slow, shape, &spans);
                let expected = values(reference::attend_cached(q.clone(), &slow, shape, &spans));
                for (a, e) in selected.iter().zip(&expected) {
                    assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "{a} against {e}");
                }
            }
        }
    }
}
