//! Products in half precision, on the whole decoder.

use std::path::Path;

use burn::backend::Autodiff;
use burn::module::Module;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::trainable_parameters;
use lightglm_core::{Activations, GradientSums, LabelledSpan, TrainableLm, WeightDtype};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_testkit::check_linear;
use lightglm_train::lora::{Lora, LoraConfig};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::global_norm;
use lightglm_train::{HalfPrecision, MixedPrecision};

type Train = Autodiff<Flex>;

const TOKENS: [u32; 12] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];

fn load(dtype: WeightDtype) -> DenseGlm<Train> {
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), dtype, 4);
    let stored = LoadPrecision::Stored;
    DenseGlm::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice).unwrap()
}

/// Loss, and the gradients' norm.
fn measure<M: TrainableLm<Train>>(model: &M) -> [f64; 2] {
    let targets: Vec<_> = TOKENS.iter().map(|&token| Some(token)).collect();
    let span = LabelledSpan::text(&TOKENS, &targets);
    let mut sums = GradientSums::new();
    let keep = Activations::Keep;
    let loss = model.differentiate(&[span], &CrossEntropy, keep, &mut sums).unwrap();
    [loss, global_norm(&sums)]
}

#[test]
fn near_to_full_precision() {
    let whole = measure(&load(WeightDtype::F32));
    // Relative steps of 2^-8 and 2^-11, which mostly average out.
    for (half, tolerance) in [(HalfPrecision::Bf16, 2e-2), (HalfPrecision::F16, 3e-3)] {
        let mut wrap = |_: &str, linear: DenseLinear<Train>| MixedPrecision::new(linear, half);
        let mixed = load(WeightDtype::F32).map_linears(&mut wrap);
        let names: Vec<_> = trainable_parameters(&mixed).into_iter().map(|p| p.dtype).collect();
        assert!(names.iter().all(|dtype| *dtype == burn::tensor::DType::F32), "{names:?}");
        for (mixed, whole) in measure(&mixed).into_iter().zip(whole) {
            let gap = (mixed - whole).abs() / whole;
            assert!(gap < tolerance && gap > 0.0, "{half:?}: {mixed}, {whole}");
        }
    }
}

#[test]
fn below_an_adapter_with_frozen_half_weights() {
    let lora = Lora::new("default", LoraConfig::default(), 1).unwrap();
    let half = HalfPrecision::of::<Train>(&FlexDevice).unwrap();
    let mut wrap =
        |name: &str, linear: DenseLinear<Train>| lora.wrap(name, MixedPrecision::new(linear, half));
    let mixed = load(WeightDtype::Bf16).no_grad().map_linears(&mut wrap);
    let [loss, norm] = measure(&mixed);
    let same = Lora::new("default", LoraConfig::default(), 1).unwrap();
    let mut wrap = |name: &str, linear: DenseLinear<Train>| same.wrap(name, linear);
    let whole = measure(&load(WeightDtype::Bf16).no_grad().map_linears(&mut wrap));
    assert!((loss - whole[0]).abs() < 2e-2 * whole[0], "{loss}, {}", whole[0]);
    assert!((norm - whole[1]).abs() < 5e-2 * whole[1], "{norm}, {}", whole[1]);
}

#[test]
fn a_linear_like_others() {
    let mut checked = false;
    let mut wrap = |_: &str, linear: DenseLinear<Flex>| {
        let linear = MixedPrecision::new(linear, HalfPrecision::Bf16);
        if !checked {
            check_linear::<Flex, _>(&linear, &FlexDevice);
            checked = true;
        }
        linear
    };
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 4);
    let stored = LoadPrecision::Stored;
    let model = DenseGlm::<Flex>::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice);
    let _ = model.unwrap().map_linears(&mut wrap);
}
