//! Gradients against their formulas and against central differences.
//!
//! Shapes: `T` rows, `N` out_features, `K` in_features.

use burn::module::Param;
use burn::tensor::Tensor;
use burn_flex::Flex;
use lightglm_core::{EffectiveWeight, Embedding, Linear};
use lightglm_kernels::{LmBackend, reference};
use lightglm_quant::qat::{
    FakeQuantEmbedding, FakeQuantLinear, ScaleSource, fake_quantize_rows, fake_quantize_weight,
};
use lightglm_testkit::SplitMix;
use proptest::prelude::*;

use crate::dense_projection::{
    DenseProjection, Train, error, numbers, quantized, scheme, tensor, values,
};

/// Of the largest value: a handful of f32 roundings against f64.
const FORMULA: f64 = 1e-4;

/// Of the largest value: central differences of sums in f32, a step of 2^-6 wide.
const DIFFERENCES: f32 = 1e-3;

const SCHEMES: [&str; 8] = [
    "int8wo",
    "int8wo-f16",
    "int8wo-g16",
    "int4wo",
    "int4wo-g8-f32",
    "int4wo-g16-zp",
    "int8wo-zp",
    "w4a8-g24-ag24-zp",
];

/// What a learned scale's formulas say, in f64, for upstream gradients `g`.
struct Expected {
    of_weight: Vec<f64>,
    of_scales: Vec<f64>,
    of_minimums: Vec<f64>,
    /// Largest sum of magnitudes behind a gradient of a scale.
    size: f64,
}

fn expected(
    weight: &[f32],
    [n, k]: [usize; 2],
    text: &str,
    scales: &[f32],
    minimums: Option<&[f32]>,
    g: &[f32],
) -> Expected {
    let scheme = quantized(text).weight;
    let (group, groups) = (scheme.group_size(k), k.div_ceil(scheme.group_size(k)));
    let (low, high) = match scheme.symmetric {
        true => (1.0 - f64::from(scheme.bits.offset()), f64::from(scheme.bits.offset()) - 1.0),
        false => (0.0, f64::from(scheme.bits.largest())),
    };
    let mut of_weight = vec![0.0; n * k];
    let (mut of_scales, mut of_minimums) = (vec![0.0; n * groups], vec![0.0; n * groups]);
    let mut sizes = vec![0.0; n * groups];
    for i in 0..n * k {
        let at = i / k * groups + i % k / group;
        let minimum = minimums.map_or(0.0, |minimums| minimums[at]);
        // In f32, so that the same weights lie in range.
        let exact = (weight[i] - minimum) / scales[at];
        let rounded = f64::from(exact.round_ties_even());
        let g = f64::from(g[i]);
        let of_scale = match (low..=high).contains(&rounded) {
            true => {
                of_weight[i] = g;
                rounded - f64::from(exact)
            }
            false => {
                of_minimums[at] += g;
                rounded.clamp(low, high)
            }
        };
        of_scales[at] += g * of_scale;
        sizes[at] += (g * of_scale).abs();
    }
    let size = sizes.into_iter().fold(0.0, f64::max);
    Expected { of_weight, of_scales, of_minimums, size }
}

fn near(what: &str, actual: &[f32], expected: &[f64], size: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (&a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - e).abs() <= FORMULA * size, "{what} {i}: {a} instead of {e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn learned_scales_have_lsq_gradients(
        scheme_index in 0..SCHEMES.len(),
        n in 1usize..6,
        k in 1usize..50,
        shrink in 0.3f32..1.5,
        seed: u64,
    ) {
        let text = SCHEMES[scheme_index];
        let mut random = SplitMix::new(seed);
        let dense = DenseProjection::<Train>::random([n, k], false, seed);
        let mut layer =
            FakeQuantLinear::new("w", dense, scheme(text), ScaleSource::Learned).unwrap();
        // Smaller scales clip, moved minimums do so at either end.
        let learned = layer.quantizer.learned.as_mut().unwrap();
        learned.scales = Param::from_tensor(Tensor::from_inner(learned.scales.val().inner() * shrink));
        let moved = |m: Param<Tensor<Train, 2>>| Tensor::from_inner(m.val().inner() * 0.9);
        learned.minimums = learned.minimums.take().map(moved).map(Param::from_tensor);
        let dtype = quantized(text).weight.scale_dtype;
        let (scales, minimums) = learned.effective(dtype);
        let (scales, minimums) = (values(scales), minimums.map(values));
        prop_assert!(scales.iter().all(|&scale| scale > 0.0));

        let g = numbers(&mut random, n * k, 1.0);
        let upstream: Tensor<Train, 2> = tensor(g.clone(), [n, k]);
        let gradients = (layer.weight() * upstream).sum().backward();
        let weight = values(layer.inner.weight());
        let expected = expected(&weight, [n, k], text, &scales, minimums.as_deref(), &g);
        let of_weight = layer.inner.weight.val().grad(&gradients).unwrap();
        near("weight", &values(of_weight), &expected.of_weight, 1.0);
        let learned = layer.quantizer.learned.as_ref().unwrap();
        let of_scales = learned.scales.val().grad(&gradients).unwrap();
        near("scale", &values(of_scales), &expected.of_scales, expected.size.max(1.0));
        if let Some(minimums) = &learned.minimums {
            let of_minimums = minimums.val().grad(&gradients).unwrap();
            near("minimum", &values(of_minimums), &expected.of_minimums, k as f64);
        }
    }

    #[test]
    fn observed_scales_pass_what_is_in_range(
        scheme_index in 0..SCHEMES.len(),
        n in 1usize..6,
        k in 1usize..50,
        seed: u64,
    ) {
        let scheme = quantized(SCHEMES[scheme_index]).weight;
        let mut random = SplitMix::new(seed);
        let weight = numbers(&mut random, n * k, 1.0);
        let g = numbers(&mut random, n * k, 1.0);
        let w: Tensor<Train, 2> = tensor(weight.clone(), [n, k]).require_grad();
        let fake = fake_quantize_weight(w.clone(), &scheme);
        let gradients = (fake * tensor(g.clone(), [n, k])).sum().backward();
        let matrix = lightglm_quant::round_to_nearest("w", &weight, [n, k], &scheme).unwrap();
        let minimums = matrix.minimums.as_deref();
        let text = SCHEMES[scheme_index];
        let expected = expected(&weight, [n, k], text, &matrix.scales, minimums, &g);
        near("weight", &values(w.grad(&gradients).unwrap()), &expected.of_weight, 1.0);
    }
}

#[test]
fn a_clipped_group_has_the_true_gradient_of_its_scale() {
    // Every weight is clipped, so that rounding is locally constant and the gradient no estimate.
    let weight = vec![3.0, -2.0, 5.0, 4.0];
    let (g, scale, step) = ([1.0, 0.5, -0.25, 2.0], 0.125f32, 1.0 / 64.0);
    let at = |scale: f32| {
        let dense = DenseProjection::<Train>::new(weight.clone(), [1, 4], None);
        let mut layer =
            FakeQuantLinear::new("w", dense, scheme("int4wo"), ScaleSource::Learned).unwrap();
        let scales = Param::from_tensor(tensor(vec![scale], [1, 1]));
        layer.quantizer.learned.as_mut().unwrap().scales = scales;
        let loss = (layer.weight() * tensor(g.to_vec(), [1, 4])).sum();
        (layer, loss)
    };
    let value = |scale| values(at(scale).1)[0];
    let difference = (value(scale + step) - value(scale - step)) / (2.0 * step);
    let (layer, loss) = at(scale);
    let gradients = loss.backward();
    let scales = layer.quantizer.learned.unwrap().scales.val();
    let gradient = values(scales.grad(&gradients).unwrap())[0];
    assert!((gradient - difference).abs() < DIFFERENCES * difference.abs(), "{gradient}");
    // A scale below zero computes as its magnitude does, and its gradient points back.
    let (layer, loss) = at(-scale);
    assert_eq!(values(loss.clone()), [value(scale)]);
    let scales = layer.quantizer.learned.unwrap().scales.val();
    assert_eq!(values(scales.grad(&loss.backward()).unwrap()), [-gradient]);
}

#[test]
fn inputs_and_biases_have_the_gradients_of_central_differences() {
    // Activations of 16 bits: `y` is linear in `x` and `b`.
    let (t, [n, k], step) = (3, [5, 20], 1.0 / 64.0);
    for text in ["int8wo", "int4wo-g8", "int4wo-g16-zp"] {
        let dense = DenseProjection::<Train>::random([n, k], true, 3);
        let layer = FakeQuantLinear::new("w", dense, scheme(text), ScaleSource::Observed).unwrap();
        let mut random = SplitMix::new(4);
        let (x, g) = (numbers(&mut random, t * k, 1.0), numbers(&mut random, t * n, 1.0));
        let loss = |x: Tensor<Train, 2>| (layer.forward(x) * tensor(g.clone(), [t, n])).sum();
        let tracked: Tensor<Train, 2> = tensor(x.clone(), [t, k]).require_grad();
        let gradients = loss(tracked.clone()).backward();
        let differences: Vec<f32> = (0..t * k)
            .map(|i| {
                let at = |change: f32| {
                    let mut x = x.clone();
                    x[i] += change;
                    values(loss(tensor(x, [t, k])))[0]
                };
                (at(step) - at(-step)) / (2.0 * step)
            })
            .collect();
        let gradient = values(tracked.grad(&gradients).unwrap());
        assert!(error(&gradient, &differences) < DIFFERENCES, "{text}");
        let of_bias = layer.inner.bias.as_ref().unwrap().val().grad(&gradients).unwrap();
        let sums: Vec<f32> = (0..n).map(|i| (0..t).map(|row| g[row * n + i]).sum()).collect();
        assert!(error(&values(of_bias), &sums) < DIFFERENCES, "{text}");
    }
}

/// The operation that hands gradients on, against the plain burn operations that specify it.
#[test]
fn gradients_pass_values_as_the_reference_says() {
    let mut random = SplitMix::new(10);
    let (value, g) = (numbers(&mut random, 12, 3.0), numbers(&mut random, 12, 1.0));
    let carrier = numbers(&mut random, 12, 1.0);
    type Pass = fn(Tensor<Train, 2>, Tensor<Train, 2>) -> Tensor<Train, 2>;
    let passes: [Pass; 2] = [Train::straight_through, reference::straight_through];
    for pass in passes {
        let parameter: Tensor<Train, 2> = tensor(carrier.clone(), [3, 4]).require_grad();
        for carrier in [parameter.clone(), parameter.clone() * 2.0] {
            let passed = pass(tensor(value.clone(), [3, 4]), carrier.clone());
            assert_eq!(values(passed.clone()), value);
            let gradients = (passed * tensor(g.clone(), [3, 4])).sum().backward();
            let factor = values(carrier)[0] / values(parameter.clone())[0];
            let expected: Vec<f32> = g.iter().map(|g| g * factor).collect();
            assert_eq!(values(parameter.grad(&gradients).unwrap()), expected);
        }
        // A carrier without a parameter is a constant.
        let constant = tensor(carrier.clone(), [3, 4]);
        assert_eq!(values(pass(tensor(value.clone(), [3, 4]), constant)), value);
    }
}

#[test]
fn activations_pass_gradients_straight_through() {
    let mut random = SplitMix::new(5);
    for (k, group) in [(16, 16), (20, 8), (7, 7), (3, 64)] {
        let x: Tensor<Train, 2> = tensor(numbers(&mut random, 4 * k, 3.0), [4, k]).require_grad();
        let g = numbers(&mut random, 4 * k, 1.0);
        let fake = fake_quantize_rows(x.clone(), group);
        let gradients = (fake * tensor(g.clone(), [4, k])).sum().backward();
        assert_eq!(values(x.grad(&gradients).unwrap()), g);
    }
}

#[test]
fn frozen_weights_get_no_gradients_and_pass_them_on() {
    let mut dense = DenseProjection::<Train>::random([4, 16], false, 6);
    dense.weight = dense.weight.set_require_grad(false);
    let layer = FakeQuantLinear::new("w", dense, scheme("w8a8"), ScaleSource::Observed).unwrap();
    let x: Tensor<Train, 2> = tensor(vec![0.5; 16], [1, 16]).require_grad();
    let gradients = layer.forward(x.clone()).sum().backward();
    assert!(layer.inner.weight.val().grad(&gradients).is_none());
    assert!(x.grad(&gradients).is_some());
}

#[test]
fn heads_of_outputs_are_quantized_by_themselves() {
    let dense = DenseProjection::<Flex>::random([16, 8], true, 7);
    let plain = FakeQuantLinear::new("v", dense, scheme("dense"), ScaleSource::Observed).unwrap();
    let heads = plain.clone().with_output_heads("v", 4).unwrap();
    let x = tensor(numbers(&mut SplitMix::new(8), 3 * 8, 1.0), [3, 8]);
    let (y, fake) = (values(plain.forward(x.clone())), values(heads.forward(x)));
    for (y, fake) in y.chunks(4).zip(fake.chunks(4)) {
        let scale = y.iter().fold(0.0f32, |max, y| max.max(y.abs())) / 127.0;
        let expected: Vec<f32> = y.iter().map(|y| (y / scale).round_ties_even() * scale).collect();
        assert_eq!(fake, expected);
    }
}

#[test]
fn a_tied_table_is_trained_at_both_ends() {
    let (v, d) = (6, 16);
    for scales in [ScaleSource::Observed, ScaleSource::Learned] {
        let weight = tensor(numbers(&mut SplitMix::new(9), v * d, 1.0), [v, d]);
        let weight = Param::from_tensor(weight);
        let table: FakeQuantEmbedding<Train> =
            FakeQuantEmbedding::new("t", weight, scheme("int4wo-g8"), scales).unwrap();
        let of_rows = table.forward(&[1, 4, 1]).sum().backward();
        let gradient = values(table.weight.val().grad(&of_rows).unwrap());
        let per_row: Vec<f32> = gradient.chunks(d).map(|row| row[0]).collect();
        assert_eq!(per_row, [0.0, 2.0, 0.0, 0.0, 1.0, 0.0]);
        let rows = values(table.forward(&[1, 4, 1]));
        let all = values(table.quantizer.weight(table.weight.val()));
        assert_eq!(rows[..d], all[d..2 * d]);
        assert_eq!(rows[d..2 * d], all[4 * d..5 * d]);
        let of_head = table.project(tensor(vec![1.0; d], [1, d])).sum().backward();
        assert_eq!(values(table.weight.val().grad(&of_head).unwrap()), vec![1.0; v * d]);
        if let Some(learned) = &table.quantizer.learned {
            assert!(learned.scales.val().grad(&of_rows).is_some());
        }
    }
}
