//! What is packed is what was computed with.

use std::path::Path;

use burn::module::{AutodiffModule, Param};
use burn_flex::Flex;
use bytes::Bytes;
use lightglm_core::{EffectiveWeight, Embedding, Linear, LoadPart, PartSource, StoredTensor};
use lightglm_kernels::QuantizedMatrix;
use lightglm_quant::qat::{
    Convert, FakeQuantEmbedding, FakeQuantLinear, Prepare, ScaleSource, TrainedScales,
};
use lightglm_quant::{
    CheckpointQuantizer, HostMatrix, MatrixWeight, Policy, QuantizedCheckpoint, round_to_nearest,
};
use lightglm_testkit::SplitMix;

use crate::dense_projection::{
    DEVICE, DenseProjection, Train, error, numbers, quantized, scheme, tensor, values,
};
use crate::table_source::TableSource;

const SCHEMES: [&str; 11] = [
    "w8a8",
    "int8",
    "int4",
    "w4a8-g128",
    "int4wo-g128",
    "int8wo",
    "int8wo-f16",
    "int4wo-g32-zp",
    "int8wo-zp",
    "w4a8-g16-ag32-zp",
    "w8a8-g24-ag24",
];

/// No multiple of a panel's rows, nor of a group's columns.
const SHAPES: [[usize; 2]; 4] = [[35, 72], [17, 8], [64, 131], [33, 3]];

/// Of the largest output: integer sums are exact, their scaling and the sums of f32 round.
const EIGHT_BITS: f32 = 2e-6;

/// Of the largest output: as above, and activations that pass as they are meet ones of 16 bits, a
/// 65024th of a group's range.
const SIXTEEN_BITS: f32 = 1e-4;

fn packed(weight: &MatrixWeight<Flex>) -> QuantizedMatrix {
    match weight {
        MatrixWeight::Packed(packed) => packed.unpack(),
        MatrixWeight::Dense(_) => panic!("dense"),
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    // Adding zero makes both zeros one.
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

/// The layer's weight, its packed matrix's, and their products with `x`.
fn check(text: &str, layer: &FakeQuantLinear<Flex, DenseProjection<Flex>>) -> QuantizedMatrix {
    let served = layer.convert("w").unwrap();
    let matrix = packed(&served.weight);
    assert_eq!(bits(&values(layer.weight())), bits(&matrix.dequantize()), "{text}");
    let k = layer.shape()[1];
    let x = tensor(numbers(&mut SplitMix::new(11), 5 * k, 2.0), [5, k]);
    let error = error(&values(layer.forward(x.clone())), &values(served.forward(x)));
    let sixteen = text.contains("wo");
    let most = if sixteen { SIXTEEN_BITS } else { EIGHT_BITS };
    assert!(error <= most, "{text} {:?}: {error:e}", layer.shape());
    matrix
}

#[test]
fn observed_scales_are_those_of_round_to_nearest() {
    for (shape, text) in SHAPES.iter().flat_map(|shape| SCHEMES.map(|text| (*shape, text))) {
        let mut dense = DenseProjection::<Flex>::random(shape, true, 1);
        // A row of zeros, a group of zeros, a large weight, a tiny one, one sign only.
        let mut weight = values(dense.weight());
        weight[..shape[1]].fill(0.0);
        weight[shape[1]..][..shape[1].min(64)].fill(0.0);
        weight[2 * shape[1]] = 1e4;
        weight[3 * shape[1]..][..shape[1]].fill(1e-7);
        weight[4 * shape[1]..][..shape[1]].iter_mut().for_each(|w| *w = w.abs() + 1.0);
        dense.weight = Param::from_tensor(tensor(weight.clone(), shape));
        let layer = FakeQuantLinear::new("w", dense, scheme(text), ScaleSource::Observed).unwrap();
        let matrix = check(text, &layer);
        let expected = round_to_nearest("w", &weight, shape, &quantized(text).weight).unwrap();
        assert_eq!(matrix, expected, "{text} {shape:?}");
        // The same on the backend that trains.
        let dense = DenseProjection::<Train>::new(weight, shape, None);
        let layer = FakeQuantLinear::new("w", dense, scheme(text), ScaleSource::Observed).unwrap();
        assert_eq!(bits(&values(layer.weight())), bits(&expected.dequantize()), "{text}");
        assert_eq!(bits(&values(layer.valid().weight())), bits(&expected.dequantize()));
    }
}

#[test]
fn learned_scales_are_packed_as_they_are_computed_with() {
    for (shape, text) in SHAPES.iter().flat_map(|shape| SCHEMES.map(|text| (*shape, text))) {
        let dense = DenseProjection::<Flex>::random(shape, false, 2);
        let mut layer =
            FakeQuantLinear::new("w", dense, scheme(text), ScaleSource::Learned).unwrap();
        let observed = check(text, &layer);
        let weight = values(layer.inner.weight());
        let expected = round_to_nearest("w", &weight, shape, &quantized(text).weight).unwrap();
        assert_eq!(observed, expected, "learning starts from what is observed: {text}");
        // As an optimizer leaves them: no longer f16, some below zero.
        let mut random = SplitMix::new(12);
        let learned = layer.quantizer.learned.as_mut().unwrap();
        for param in [Some(&mut learned.scales), learned.minimums.as_mut()].into_iter().flatten() {
            let shape = param.dims();
            let factors = tensor(numbers(&mut random, shape[0] * shape[1], 1.2), shape);
            *param = Param::from_tensor(param.val() * factors);
        }
        let matrix = check(text, &layer);
        assert!(matrix.scales.iter().all(|&scale| scale > 0.0));
        assert_ne!(matrix.scales, expected.scales);
    }
}

#[test]
fn tables_are_packed_as_they_are_computed_with() {
    let (shape, ids) = ([70, 40], [3u32, 69, 3, 0]);
    for text in SCHEMES {
        for scales in [ScaleSource::Observed, ScaleSource::Learned] {
            let weight = tensor(numbers(&mut SplitMix::new(3), 70 * 40, 1.0), shape);
            let weight = Param::from_tensor(weight);
            let table: FakeQuantEmbedding<Flex> =
                FakeQuantEmbedding::new("t", weight, scheme(text), scales).unwrap();
            let served = table.convert("t").unwrap();
            let (rows, packed) = (values(table.forward(&ids)), values(served.forward(&ids)));
            assert_eq!(bits(&rows), bits(&packed), "{text}");
            let x = tensor(numbers(&mut SplitMix::new(4), 3 * 40, 1.0), [3, 40]);
            let error = error(&values(table.project(x.clone())), &values(served.project(x)));
            assert!(error <= SIXTEEN_BITS, "{text}: {error:e}");
        }
    }
}

#[test]
fn dense_stays_dense() {
    let dense = DenseProjection::<Flex>::random([5, 7], true, 5);
    let layer = FakeQuantLinear::new("w", dense.clone(), scheme("dense"), ScaleSource::Learned);
    let layer = layer.unwrap();
    let x = tensor(numbers(&mut SplitMix::new(6), 2 * 7, 1.0), [2, 7]);
    let expected = values(dense.forward(x.clone()));
    assert_eq!(values(layer.forward(x.clone())), expected);
    assert_eq!(values(layer.weight()), values(dense.weight()));
    let served = layer.convert("w").unwrap();
    assert!(matches!(served.weight, MatrixWeight::Dense(_)));
    assert_eq!(values(served.forward(x)), expected);
}

fn stored(values: &[f32], shape: [usize; 2]) -> StoredTensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    StoredTensor { dtype: "F32".into(), shape: shape.into(), parts: vec![Bytes::from(bytes)] }
}

/// A file written from the trained weights holds the codes and scales that `convert` packs.
#[test]
fn files_hold_what_was_computed_with() {
    let policy: Policy =
        "model.embed_tokens=w8a8,*.dense_proj=dense,*=int4wo-g32-zp".parse().unwrap();
    let names = ["model.layers.0.q_proj", "model.layers.0.dense_proj", "model.layers.1.q_proj"];
    let shape = [40, 72];
    for source in [ScaleSource::Observed, ScaleSource::Learned] {
        let mut prepare = Prepare::new(&policy).with_scales(source);
        let mut layers: Vec<FakeQuantLinear<Flex, DenseProjection<Flex>>> = names
            .iter()
            .zip(1..)
            .map(|(name, seed)| prepare.linear(name, DenseProjection::random(shape, false, seed)))
            .collect::<Result<_, _>>()
            .unwrap();
        let table = Param::from_tensor(tensor(numbers(&mut SplitMix::new(9), 40 * 72, 1.0), shape));
        let mut table = prepare.embedding("model.embed_tokens", table).unwrap();
        prepare.finish().unwrap();
        let quantizers = layers.iter_mut().map(|layer| &mut layer.quantizer);
        for quantizer in quantizers.chain([&mut table.quantizer]) {
            let Some(learned) = &mut quantizer.learned else { continue };
            learned.scales = Param::from_tensor(learned.scales.val() * 0.7);
        }

        let mut convert = Convert::new();
        let mut expected = Vec::new();
        let mut trained = TableSource::default();
        for (name, layer) in names.iter().zip(&layers) {
            expected.push((*name, convert.linear(name, layer).unwrap().weight));
            let weight = stored(&values(layer.inner.weight()), shape);
            trained.tensors.insert(format!("{name}.weight"), weight);
        }
        let name = "model.embed_tokens";
        expected.push((name, convert.embedding(name, &table).unwrap().weight));
        let weight = stored(&values(table.weight.val()), shape);
        trained.tensors.insert(format!("{name}.weight"), weight);
        let scales = convert.into_scales();
        assert_eq!(scales == TrainedScales::default(), source == ScaleSource::Observed);
        assert_eq!(scales.names().count(), if source == ScaleSource::Learned { 3 } else { 0 });

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors: Vec<(String, Vec<usize>)> = trained
            .tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
            .collect();
        let method = |matrix: &lightglm_quant::DenseMatrix<'_>| scales.quantize(matrix);
        let quantizer = CheckpointQuantizer::new(&trained, Path::new("trained"), &policy);
        quantizer.with_method(&method).save(&path, &tensors).unwrap();

        let file = TableSource::read(&path, 0);
        let checkpoint = QuantizedCheckpoint::open(&file, &path).unwrap();
        for (name, expected) in expected {
            let read =
                PartSource::<Flex>::linear(&checkpoint, &LoadPart::new(name, shape), &DEVICE)
                    .unwrap();
            match (&read.weight, &expected) {
                (MatrixWeight::Packed(read), MatrixWeight::Packed(expected)) => {
                    assert_eq!(read.unpack(), expected.unpack(), "{name}");
                    assert_eq!(read.format(), expected.format(), "{name}");
                }
                (MatrixWeight::Dense(read), MatrixWeight::Dense(expected)) => {
                    assert_eq!(values(read.val()), values(expected.val()), "{name}");
                }
                _ => panic!("{name} is packed on one side only"),
            }
        }
        // Observed scales need no method at all.
        if source == ScaleSource::Observed {
            let quantizer = CheckpointQuantizer::new(&trained, Path::new("trained"), &policy);
            let HostMatrix::Packed(bytes) = quantizer.matrix(names[0], shape).unwrap() else {
                panic!("dense")
            };
            let again = bytes.into_matrix::<Flex>(&DEVICE).unwrap().unpack();
            let read =
                PartSource::<Flex>::linear(&checkpoint, &LoadPart::new(names[0], shape), &DEVICE)
                    .unwrap();
            assert_eq!(again, packed(&read.weight));
        }
    }
}
