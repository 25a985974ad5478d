//! `check_trainable_lm`.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param, ParamId};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use lightglm_core::{Activations, GradientSums, LabelledSpan, Objective, TrainableLm};

/// Two ways to the same gradient differ by rounding: relative to the largest element.
const TOLERANCE: f32 = 1e-4;

/// Step of the central differences, and how far they may be off: the loss is f32.
const STEP: f32 = 1e-2;
const DIFFERENCE_TOLERANCE: f32 = 3e-2;

/// Checks what [`TrainableLm`] promises: `evaluate` and `differentiate` agree, gradients add up over
/// spans and calls, do not depend on what is kept of the forward pass, and are the derivatives that
/// central differences measure (of the elements with the largest ones).
///
/// # Panics
/// Where a promise is broken.
pub fn check_trainable_lm<B: AutodiffBackend, M: TrainableLm<B>>(
    model: &M,
    objective: &dyn Objective<B>,
    tokens: &[u32],
) {
    let targets: Vec<Option<u32>> =
        tokens.iter().enumerate().map(|(i, _)| tokens.get(i + 1).copied()).collect();
    let (a, b) = tokens.split_at(tokens.len() / 2);
    let (ta, tb) = targets.split_at(tokens.len() / 2);
    let spans = [LabelledSpan::text(a, ta), LabelledSpan::text(b, tb)];
    let run = |spans: &[LabelledSpan<'_>], activations, sums: &mut _| {
        model.differentiate(spans, objective, activations, sums).expect("the batch is valid")
    };

    let mut whole = GradientSums::new();
    let loss = run(&spans, Activations::Keep, &mut whole);
    let evaluated = model.evaluate(&spans, objective).expect("the batch is valid");
    assert!((loss - evaluated).abs() <= 1e-5 * loss.abs(), "{loss}, evaluated {evaluated}");

    let mut again = GradientSums::new();
    let recomputed = run(&spans, Activations::Recompute, &mut again);
    assert!((loss - recomputed).abs() <= 1e-5 * loss.abs(), "{loss}, recomputed {recomputed}");
    assert_close("with blocks computed again", &values(&again), &values(&whole));

    let mut parts = GradientSums::new();
    let one_by_one: f64 =
        spans.iter().map(|span| run(&[*span], Activations::Keep, &mut parts)).sum();
    assert!((loss - one_by_one).abs() <= 1e-5 * loss.abs(), "{loss}, in parts {one_by_one}");
    assert_close("in parts", &values(&parts), &values(&whole));

    let none: Vec<Option<u32>> = vec![None; a.len()];
    let unlabelled = [LabelledSpan::text(a, &none)];
    let mut nothing = GradientSums::new();
    assert_eq!(run(&unlabelled, Activations::Keep, &mut nothing), 0.0, "no label, no loss");
    assert!(nothing.is_empty(), "no label, no gradient");

    check_differences(model, objective, &spans, &values(&whole));
}

type Values = BTreeMap<ParamId, Vec<f32>>;

fn values<B: AutodiffBackend>(sums: &GradientSums<B>) -> Values {
    let numbers = |sum: &Tensor<B::InnerBackend, 1>| {
        sum.clone().into_data().convert::<f32>().to_vec().expect("floats")
    };
    sums.iter().map(|(id, sum)| (id, numbers(sum))).collect()
}

fn assert_close(what: &str, actual: &Values, expected: &Values) {
    assert!(actual.keys().eq(expected.keys()), "{what}: other parameters have gradients");
    for (actual, expected) in actual.values().zip(expected.values()) {
        let largest = expected.iter().fold(1e-3f32, |max, x| max.max(x.abs()));
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= TOLERANCE * largest, "{what}: {a}, expected {e}");
        }
    }
}

/// The element of each parameter with the largest gradient, moved up and down.
fn check_differences<B: AutodiffBackend, M: TrainableLm<B>>(
    model: &M,
    objective: &dyn Objective<B>,
    spans: &[LabelledSpan<'_>],
    gradients: &Values,
) {
    for (&id, gradient) in gradients {
        let largest = |best: usize, i: usize| {
            if gradient[i].abs() > gradient[best].abs() { i } else { best }
        };
        let at = (0..gradient.len()).fold(0, largest);
        let moved = |by: f32| {
            let model = model.clone().map(&mut Move { id, at, by });
            model.evaluate(spans, objective).expect("the batch is valid")
        };
        let slope = |step: f32| {
            let difference = moved(step) - moved(-step);
            (difference / f64::from(2.0 * step)) as f32
        };
        let (expected, bound) = (gradient[at], DIFFERENCE_TOLERANCE * gradient[at].abs() + 5e-3);
        let fits = |slope: f32| (slope - expected).abs() <= bound;
        let coarse = slope(STEP);
        if !fits(coarse) {
            // The loss is bent: half the step has a quarter of the error (Richardson's extrapolation).
            let bent = (4.0 * slope(STEP / 2.0) - coarse) / 3.0;
            assert!(fits(bent), "measured {coarse}, unbent {bent}, gradient {expected}");
        }
    }
}

struct Move {
    id: ParamId,
    at: usize,
    by: f32,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if param.id != self.id {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.dims(), tensor.device());
        let mut values = tensor.into_data().convert::<f32>().to_vec::<f32>().expect("floats");
        values[self.at] += self.by;
        let moved = Tensor::from_data(TensorData::new(values, shape), &device).require_grad();
        Param::from_mapped_value(id, moved, mapper)
    }
}
