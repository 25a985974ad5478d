//! The numbers that torch gives (`fixtures/quant/qat.safetensors`).

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;
use lightglm_core::{EffectiveWeight, Linear};
use lightglm_quant::qat::{FakeQuantLinear, ScaleSource};
use safetensors::SafeTensors;

use crate::dense_projection::{DenseProjection, Train, error, scheme, tensor, values};

const SHAPE: [usize; 2] = [24, 128];
const ROWS: usize = 6;

/// Of the largest value: sums of 128 products (of 768 for the gradients of scales) in another order.
const SUMS: f32 = 1e-6;

/// Of the largest value. A gradient of a scale sums `g * (q - w / s)`, and `w / s` is rounded to an
/// ulp of up to 127 where the difference is at most a half.
const SCALE_SUMS: f32 = 1e-5;

type Layer = FakeQuantLinear<Train, DenseProjection<Train>>;

/// The fixture's bytes, or `None` with a word about it where it is not there.
fn fixture() -> Option<Vec<u8>> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file = shared.unwrap_or(beside).join("fixtures/quant/qat.safetensors");
    let bytes = std::fs::read(&file);
    if bytes.is_err() {
        println!("skipped: {} is not there", file.display());
    }
    bytes.ok()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (chunks, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
    chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn layer(file: &SafeTensors<'_>, text: &str, scales: ScaleSource) -> Layer {
    let dense = DenseProjection::new(floats(file, "int8.w"), SHAPE, None);
    FakeQuantLinear::new("w", dense, scheme(text), scales).unwrap()
}

/// `y`, and the gradients of the weight, of `x` and of the scales where they are learned.
fn run(file: &SafeTensors<'_>, layer: &Layer) -> [Vec<f32>; 4] {
    let x: Tensor<Train, 2> = tensor(floats(file, "int8.x"), [ROWS, SHAPE[1]]).require_grad();
    let y = layer.forward(x.clone());
    let upstream = tensor(floats(file, "int8.upstream"), [ROWS, SHAPE[0]]);
    let gradients = (y.clone() * upstream).sum().backward();
    let of_weight = layer.inner.weight.val().grad(&gradients).unwrap();
    let of_scales = layer.quantizer.learned.as_ref().map(|learned| {
        assert!(learned.minimums.is_none());
        values(learned.scales.val().grad(&gradients).unwrap())
    });
    let of_x = x.grad(&gradients).unwrap();
    [values(y), values(of_weight), values(of_x), of_scales.unwrap_or_default()]
}

fn check(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    let error = error(actual, expected);
    println!("{what}: {error:e}");
    assert!(error <= tolerance, "{what}: {error:e}");
}

#[test]
fn int8_with_given_scales_clips_and_learns_them() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut layer = layer(&file, "int8wo", ScaleSource::Learned);
    let given = tensor(floats(&file, "int8.scale"), [SHAPE[0], 1]);
    layer.quantizer.learned.as_mut().unwrap().scales = Param::from_tensor(given);
    assert_eq!(values(layer.weight()), floats(&file, "int8.w_fq"));
    let [y, of_weight, of_x, of_scales] = run(&file, &layer);
    check("y", &y, &floats(&file, "int8.y"), SUMS);
    check("grad_w", &of_weight, &floats(&file, "int8.grad_w"), SUMS);
    check("grad_x", &of_x, &floats(&file, "int8.grad_x"), SUMS);
    check("grad_scale", &of_scales, &floats(&file, "int8.grad_scale"), SCALE_SUMS);
    // The mask itself: gradients of weights are zero nowhere else.
    let mask = file.tensor("int8.mask").unwrap();
    let passed: Vec<u8> = of_weight.iter().map(|&g| u8::from(g != 0.0)).collect();
    assert_eq!(passed, mask.data());
}

#[test]
fn int4_in_groups_with_observed_scales() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let layer = layer(&file, "int4wo-g32-f32", ScaleSource::Observed);
    let matrix = layer.quantizer.matrix("w", layer.inner.weight()).unwrap().unwrap();
    assert_eq!(matrix.scales, floats(&file, "int4g32.scale"));
    assert_eq!(values(layer.weight()), floats(&file, "int4g32.w_fq"));
    let [y, of_weight, ..] = run(&file, &layer);
    check("y", &y, &floats(&file, "int4g32.y"), SUMS);
    check("grad_w", &of_weight, &floats(&file, "int4g32.grad_w"), SUMS);
}

#[test]
fn int8_with_dynamic_activations() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let layer = layer(&file, "w8a8", ScaleSource::Observed);
    let [y, of_weight, of_x, _] = run(&file, &layer);
    check("y", &y, &floats(&file, "w8a8.y"), SUMS);
    check("grad_w", &of_weight, &floats(&file, "w8a8.grad_w"), SUMS);
    check("grad_x", &of_x, &floats(&file, "w8a8.grad_x"), SUMS);
}
