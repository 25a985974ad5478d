//! Backward passes: the derivative that burn takes of the plain forward pass, the plain backward pass
//! and the fast one agree.

use burn::backend::Autodiff;
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{self, Isa};
use lightglm_kernels::{
    AdamWState, AdamWStep, AttentionShape, AttentionSpan, LmBackend, LmGradients, reference,
};

type A = Autodiff<Flex>;

/// f32 sums in other orders, relative to the largest element, or to inputs of about 1 where terms
/// cancel.
const TOLERANCE: f32 = 2e-5;

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<A, D> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let n: usize = shape.iter().product();
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..n).map(next).collect();
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice).require_grad()
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

#[track_caller]
fn assert_close<const D: usize>(name: &str, actual: Tensor<Flex, D>, expected: Tensor<Flex, D>) {
    assert_eq!(actual.dims(), expected.dims(), "{name}");
    let (actual, expected) = (values(actual), values(expected));
    let largest = expected.iter().fold(0.1f32, |max, x| max.max(x.abs()));
    for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!((a - e).abs() <= TOLERANCE * largest, "{name}[{i}]: {a}, expected {e}");
    }
}

/// The derivatives of `sum(f(inputs) upstream)` for three ways to compute `f`'s.
fn gradients<const N: usize>(
    inputs: &[Tensor<A, 2>; N],
    upstream: &Tensor<A, 2>,
    f: impl Fn([Tensor<A, 2>; N]) -> Tensor<A, 2>,
) -> [Tensor<Flex, 2>; N] {
    let inputs = inputs.clone().map(|x| Tensor::<A, 2>::from_inner(x.inner()).require_grad());
    let grads = (f(inputs.clone()) * upstream.clone().detach()).sum().backward();
    inputs.map(|x| x.grad(&grads).expect("the result depends on it"))
}

const WIDTHS: [usize; 6] = [1, 8, 63, 64, 65, 257];

#[test]
fn rms_norm() {
    for (t, d) in [1, 3, 65, 130].into_iter().flat_map(|t| WIDTHS.map(|d| (t, d))) {
        let (x, w, up) = (random([t, d], 1), random([1, d], 2), random([t, d], 3));
        let inputs = [x.clone(), w.clone()];
        let as_row = |w: Tensor<A, 2>| w.reshape([d]);
        let plain = gradients(&inputs, &up, |[x, w]| reference::rms_norm(x, as_row(w), 1e-5));
        let node = gradients(&inputs, &up, |[x, w]| A::rms_norm(x, as_row(w), 1e-5));
        let [dx, dw] = plain.clone();
        let [ndx, ndw] = node;
        assert_close("dx", ndx, dx.clone());
        assert_close("dweight", ndw, dw.clone());
        let w = w.inner().reshape([d]);
        let (rdx, rdw) = reference::rms_norm_backward(x.inner(), w, 1e-5, up.inner());
        assert_close("plain dx", rdx, dx);
        assert_close("plain dweight", rdw.reshape([1, d]), dw);
    }
}

#[test]
fn swiglu() {
    for (t, f) in [1, 3, 65].into_iter().flat_map(|t| WIDTHS.map(|f| (t, f))) {
        let (x, up) = (random([t, 2 * f], 1) * 9.0, random([t, f], 3));
        let inputs = [x.clone()];
        let [plain] = gradients(&inputs, &up, |[x]| reference::swiglu(x));
        let [node] = gradients(&inputs, &up, |[x]| A::swiglu(x));
        assert_close("node", node, plain.clone());
        assert_close("plain", reference::swiglu_backward(x.inner(), up.inner()), plain);
    }
}

#[test]
fn project_and_embed() {
    for (t, k, n) in [(1, 1, 1), (3, 65, 8), (64, 17, 257)] {
        let inputs = [random([t, k], 1), random([n, k], 2), random([1, n], 4)];
        let up = random([t, n], 3);
        let row = |b: Tensor<A, 2>| Some(b.reshape([n]));
        let plain = gradients(&inputs, &up, |[x, w, b]| reference::project(x, w, row(b)));
        let node = gradients(&inputs, &up, |[x, w, b]| A::project(x, w, row(b)));
        for (name, (node, plain)) in ["x", "w", "b"].iter().zip(node.into_iter().zip(plain)) {
            assert_close(name, node, plain);
        }
    }
    let ids = [3, 0, 3, 4, 3];
    let (table, up) = ([random([5, 7], 1)], random([5, 7], 2));
    let [plain] = gradients(&table, &up, |[w]| reference::embed(w, &ids));
    let [node] = gradients(&table, &up, |[w]| A::embed(w, &ids));
    assert_close("table", node, plain.clone());
    assert_close("plain", reference::embed_backward(up.inner(), &ids, 5), plain);
}

#[test]
fn a_frozen_weight_of_sixteen_bits() {
    let weight = random([9, 20], 2).inner().cast(burn::tensor::DType::BF16);
    let up = random([4, 9], 3);
    let frozen = Tensor::<A, 2>::from_inner(weight.clone());
    let [node] = gradients(&[random([4, 20], 1)], &up, |[x]| A::project(x, frozen.clone(), None));
    assert_close("dx", node, up.inner().matmul(weight.cast(burn::tensor::DType::F32)));
}

#[test]
fn rotary() {
    let (t, heads, d, r) = (5, 3, 16, 8);
    let (x, up) = ([random([t, heads * d], 1)], random([t, heads * d], 3));
    let angles = random([t, r / 2], 4).detach() * 3.0;
    let tables = || (angles.clone().cos(), angles.clone().sin());
    let turn = |f: fn(_, _, _, usize) -> _, x| f(x, tables().0, tables().1, d);
    let [plain] = gradients(&x, &up, |[x]| turn(reference::rotary::<A>, x));
    let [node] = gradients(&x, &up, |[x]| turn(A::rotary, x));
    assert_close("node", node, plain);
}

#[test]
fn attention() {
    for (heads, kv_heads, head_dim) in [(4, 2, 16), (3, 3, 5), (8, 1, 64)] {
        for lengths in [vec![1], vec![3, 1], vec![65, 64, 7], vec![130]] {
            let t = lengths.iter().sum();
            let shape = AttentionShape { heads, kv_heads, head_dim };
            let mut first_row = 0;
            let spans: Vec<_> = lengths
                .iter()
                .map(|&rows| {
                    first_row += rows;
                    let first_row = first_row - rows;
                    AttentionSpan { first_row, rows, past: 0, block_table: &[] }
                })
                .collect();
            let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
            let inputs = [random([t, wide], 1), random([t, narrow], 2), random([t, narrow], 3)];
            let inputs = inputs.map(|x| x * 3.0);
            let up = random([t, wide], 4);
            let attend = |[q, k, v]: [_; 3]| reference::attend(q, k, v, shape, &spans);
            let plain = gradients(&inputs, &up, attend);
            let node = gradients(&inputs, &up, |[q, k, v]| A::attend(q, k, v, shape, &spans));
            let raw = inputs.clone().map(Tensor::inner);
            let out = attend(inputs).inner();
            let slow = reference::attend_backward(raw, out, up.inner(), shape, &spans);
            for (i, (plain, (node, slow))) in
                plain.into_iter().zip(node.into_iter().zip(slow)).enumerate()
            {
                assert_close(["dq", "dk", "dv"][i], node, plain.clone());
                assert_close(["plain dq", "plain dk", "plain dv"][i], slow, plain);
            }
        }
    }
}

#[test]
fn cross_entropy() {
    for (r, v) in [1, 3, 65].into_iter().flat_map(|r| WIDTHS.map(|v| (r, v))) {
        let (logits, up) = (random([r, v], 1) * 20.0, random([r, 1], 3));
        let targets: Vec<u32> = (0..r).map(|i| (i * 7919 % v) as u32).collect();
        let inputs = [logits.clone()];
        let forward = reference::cross_entropy(logits.clone().inner(), &targets);
        let fast = Flex::cross_entropy(logits.clone().inner(), &targets);
        assert_close("loss", fast, forward.clone());
        let column = |x: Tensor<A, 1>| x.reshape([r, 1]);
        let [plain] = gradients(&inputs, &up, |[x]| column(reference::cross_entropy(x, &targets)));
        let [node] = gradients(&inputs, &up, |[x]| column(A::cross_entropy(x, &targets)));
        assert_close("node", node, plain.clone());
        let up = up.inner().reshape([r]);
        let slow = reference::cross_entropy_backward(logits.inner(), &targets, forward, up);
        assert_close("plain", slow, plain);
    }
}

#[test]
fn adamw_and_sum_of_squares() {
    for n in [0, 1, 15, 65, 40_000] {
        let random = |seed| random([n], seed).inner();
        let state = AdamWState { parameter: random(1), first: random(2), second: random(3).abs() };
        let step = AdamWStep {
            grad_scale: 0.5,
            decay: 0.99,
            beta1: 0.9,
            beta2: 0.95,
            step_size: 1e-2,
            second_root: 0.3,
            eps: 1e-8,
        };
        let slow = reference::adamw(state.clone(), random(4), &step);
        let fast = Flex::adamw(state, random(4), &step);
        assert_close("parameter", fast.parameter, slow.parameter);
        assert_close("first", fast.first, slow.first);
        assert_close("second", fast.second, slow.second);
        let squares = [Flex::sum_of_squares(random(4)), reference::sum_of_squares(random(4))];
        assert!((squares[0] - squares[1]).abs() <= 1e-5 * squares[1].max(1e-3), "{squares:?}");
    }
}

/// The bits do not depend on the instruction set.
#[test]
fn every_instruction_set() {
    let of = |shape: [usize; 2], seed| values(random(shape, seed).inner());
    let (t, d) = (70, 65);
    let (x, weight, grad) = (of([t, d], 1), of([1, d], 2), of([t, d], 3));
    let gate_up = of([t, 2 * d], 4);
    let run = || {
        let (mut dx, mut dw) = (vec![0.0; t * d], vec![0.0; d]);
        cpu::rms_norm_backward(&x, &weight, 1e-5, &grad, &mut dx, &mut dw);
        let mut dg = vec![0.0; 2 * t * d];
        cpu::swiglu_backward(&gate_up, &grad, d, &mut dg);
        let targets: Vec<u32> = (0..t as u32).map(|i| i % d as u32).collect();
        let (mut losses, mut dl) = (vec![0.0; t], vec![0.0; t * d]);
        cpu::cross_entropy(&x, &targets, &mut losses);
        let ones = vec![1.0; t];
        cpu::cross_entropy_backward(&x, &targets, &losses, &ones, &mut dl);
        (dx, dw, dg, losses, dl, cpu::sum_of_squares(&x))
    };
    let scalar = Isa::available()[0].run(run);
    for isa in Isa::available() {
        assert_eq!(isa.run(run), scalar, "{}", isa.name());
    }
}

/// Tasks write the spans' rows side by side, so rows of two spans would be a data race.
#[test]
#[should_panic(expected = "spans overlap")]
fn overlapping_spans_are_refused() {
    let span = |first_row| AttentionSpan { first_row, rows: 2, past: 0, block_table: &[] };
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 4 };
    let x = vec![0.0; 12];
    let [mut dq, mut dk, mut dv] = [x.clone(), x.clone(), x.clone()];
    let spans = [span(0), span(1)];
    cpu::attention_backward([&x; 3], &x, &x, shape, &spans, [&mut dq, &mut dk, &mut dv]);
}
