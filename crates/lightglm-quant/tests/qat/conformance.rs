//! The promises of core's seams.

use burn::module::Param;
use burn_flex::Flex;
use lightglm_quant::qat::{FakeQuantEmbedding, FakeQuantLinear, ScaleSource};
use lightglm_testkit::{SplitMix, check_embedding, check_linear};

use crate::dense_projection::{DEVICE, DenseProjection, numbers, scheme, tensor};

const SCHEMES: [&str; 7] =
    ["dense", "w8a8", "int8", "int4", "int4wo-g32-zp", "int8wo", "w8a8-g24-ag24"];

/// Of the largest value: one activation's 8-bit code is exact for 1 up to the rounding of a scale of
/// 1 / 127.
const TOLERANCE: f32 = 1e-5;

#[test]
fn fake_quantized_projections_are_linear() {
    for shape in [[35, 72], [17, 8], [33, 3]] {
        for text in SCHEMES {
            for scales in [ScaleSource::Observed, ScaleSource::Learned] {
                let dense = DenseProjection::<Flex>::random(shape, text != "int8", 1);
                let layer = FakeQuantLinear::new("w", dense, scheme(text), scales).unwrap();
                check_linear(&layer, &DEVICE);
            }
        }
    }
    let dense = DenseProjection::<Flex>::random([32, 24], true, 2);
    let layer = FakeQuantLinear::new("w", dense, scheme("w8a8"), ScaleSource::Observed).unwrap();
    check_linear(&layer.with_output_heads("w", 8).unwrap(), &DEVICE);
}

#[test]
fn fake_quantized_tables_are_embeddings() {
    for text in SCHEMES {
        for scales in [ScaleSource::Observed, ScaleSource::Learned] {
            let weight = tensor(numbers(&mut SplitMix::new(3), 70 * 40, 1.0), [70, 40]);
            let weight = Param::from_tensor(weight);
            let table = FakeQuantEmbedding::<Flex>::new("t", weight, scheme(text), scales);
            check_embedding(&table.unwrap(), TOLERANCE, &DEVICE);
        }
    }
}
