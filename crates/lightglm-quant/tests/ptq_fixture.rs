//! Round to nearest against the numbers that torch gives (`fixtures/quant/ptq.safetensors`).

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use half::bf16;
use lightglm_core::Linear;
use lightglm_kernels::{PackedMatrix, QuantizedMatrix, WeightBits};
use lightglm_quant::{
    MatrixWeight, PackedBytes, QuantizedLinear, QuantizedScheme, Scheme, round_to_nearest,
};
use safetensors::SafeTensors;

const SHAPE: [usize; 2] = [1024, 512];

/// Of the largest value: activations of weight-only schemes are quantized to 16 bits, a 65024th of a
/// group's range, and the reference sums in f32 in another order.
const WEIGHT_ONLY: f32 = 1e-4;

/// Of the largest value: integer sums are exact, only the scales' products round.
const DYNAMIC: f32 = 2e-6;

/// The fixture's bytes, or `None` with a word about it where it is not there.
fn fixture() -> Option<Vec<u8>> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file = shared.unwrap_or(beside).join("fixtures/quant/ptq.safetensors");
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

fn weight(file: &SafeTensors<'_>) -> Vec<f32> {
    let (chunks, _) = file.tensor("w").unwrap().data().as_chunks::<2>();
    chunks.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect()
}

fn scheme(text: &str) -> QuantizedScheme {
    match text.parse().unwrap() {
        Scheme::Quantized(scheme) => scheme,
        Scheme::Dense => panic!("{text} is dense"),
    }
}

fn quantized(file: &SafeTensors<'_>, name: &str) -> QuantizedMatrix {
    round_to_nearest("w", &weight(file), SHAPE, &scheme(name).weight).unwrap()
}

/// The largest difference of `x W^T` from the fixture, over the fixture's largest value.
fn error(file: &SafeTensors<'_>, name: &str, expected: &str) -> f32 {
    let scheme = scheme(name);
    let matrix = quantized(file, name);
    let packed = PackedBytes::pack(&matrix, scheme.format(SHAPE[1]).unwrap()).unwrap();
    let packed: PackedMatrix<Flex> = packed.into_matrix(&FlexDevice).unwrap();
    assert_eq!(packed.unpack(), matrix);
    let linear = QuantizedLinear { weight: MatrixWeight::Packed(packed), bias: None };
    let x = TensorData::new(floats(file, "x"), [4, SHAPE[1]]);
    let y = linear.forward(Tensor::from_data(x, &FlexDevice)).into_data().to_vec::<f32>().unwrap();
    let expected = floats(file, expected);
    assert_eq!(y.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |max, y| max.max(y.abs()));
    let worst = y.iter().zip(&expected).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    println!("{name}: largest difference {worst}, largest value {largest}");
    worst / largest
}

#[test]
fn int8_per_channel_is_exact() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = quantized(&file, "int8wo");
    assert_eq!(matrix.scales, floats(&file, "w8.scale"));
    let codes: Vec<u8> = matrix.codes.iter().map(|code| code.wrapping_sub(128)).collect();
    assert_eq!(codes, file.tensor("w8.q").unwrap().data());
}

#[test]
fn int4_in_groups_is_exact() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = quantized(&file, "int4wo-g128-f32");
    assert_eq!(matrix.bits, WeightBits::Four);
    assert_eq!(matrix.scales, floats(&file, "w4.scale"));
    let packed: Vec<u8> = matrix.codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect();
    assert_eq!(packed, file.tensor("w4.q_packed").unwrap().data());
    let first: Vec<u8> = matrix.codes[..16 * 512].iter().map(|code| code.wrapping_sub(8)).collect();
    assert_eq!(first, file.tensor("w4.q_unpacked_first16").unwrap().data());
}

#[test]
fn weight_only_products_agree() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = [("int8wo", "w8.y_weight_only"), ("int4wo-g128-f32", "w4.y_weight_only")];
    for (name, expected) in cases {
        let error = error(&file, name, expected);
        assert!(error < WEIGHT_ONLY, "{name}: {error}");
    }
}

#[test]
fn dynamic_activations_agree() {
    let Some(bytes) = fixture() else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, expected) in [("w8a8", "w8a8.y"), ("w4a8-g128-f32", "w4a8.y")] {
        let error = error(&file, name, expected);
        assert!(error < DYNAMIC, "{name}: {error}");
    }
}
