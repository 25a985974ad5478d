//! The promises of core's seams, checked for this crate's layers in many schemes.

mod table_source;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LoadPart, PartSource};
use lightglm_quant::{CheckpointQuantizer, Policy, QuantizedCheckpoint};
use lightglm_testkit::{check_embedding, check_linear, check_part_source, check_slice_linear};
use table_source::TableSource;

const SCHEMES: [&str; 9] = [
    "int8",
    "int4",
    "int8wo",
    "int8wo-g32",
    "int4wo-g32-zp",
    "int4wo-g64",
    "w8a8",
    "w4a8-g16-ag32-zp",
    "w8a8-g24-ag24",
];

/// Of the largest value, for the projection of a unit vector: bf16 tables are read as f32 exactly,
/// and one activation's 8-bit code is exact for 1 up to the rounding of a scale of 1 / 127.
const TOLERANCE: f32 = 1e-5;

#[test]
fn dense_projections_and_tables_keep_their_promises() {
    projections(&["dense"]);
    tables(&["dense"]);
}

#[test]
fn quantized_projections_are_linear() {
    projections(&SCHEMES);
}

#[test]
fn quantized_tables_are_embeddings() {
    tables(&SCHEMES);
}

fn projections(schemes: &[&str]) {
    // No multiple of a panel's rows, nor of a step's or a group's columns.
    for shape in [[35, 72], [17, 8], [64, 131], [33, 3]] {
        let source = TableSource::random(&[("p.weight", &shape), ("p.bias", &shape[..1])], 7);
        for scheme in schemes {
            let policy: Policy = scheme.parse().unwrap();
            let quantizer = CheckpointQuantizer::new(&source, Path::new("table"), &policy);
            for bias in [true, false] {
                let linear = PartSource::<Flex>::linear(
                    &quantizer,
                    &LoadPart::new("p", shape).with_bias(bias),
                    &FlexDevice,
                )
                .unwrap();
                check_linear(&linear, &FlexDevice);
                check_slice_linear(&linear, &FlexDevice);
            }
        }
    }
}

fn tables(schemes: &[&str]) {
    for shape in [[70, 40], [5, 131]] {
        let source = TableSource::random(&[("model.embed_tokens.weight", &shape)], 8);
        for scheme in schemes {
            // Named, so that 4 bits stay 4 bits.
            let policy: Policy = format!("model.embed_tokens={scheme}").parse().unwrap();
            let quantizer = CheckpointQuantizer::new(&source, Path::new("table"), &policy);
            let name = "model.embed_tokens";
            let table =
                PartSource::<Flex>::embedding(&quantizer, &LoadPart::new(name, shape), &FlexDevice)
                    .unwrap();
            check_embedding(&table, TOLERANCE, &FlexDevice);
        }
    }
}

#[test]
fn a_quantizer_and_what_it_wrote_are_sources_of_parts() {
    const TENSORS: [(&str, &[usize]); 5] = [
        ("model.embed_tokens.weight", &[50, 72]),
        ("model.layers.0.mlp.down_proj.weight", &[72, 136]),
        ("model.layers.0.self_attn.q_proj.weight", &[33, 72]),
        ("model.layers.0.self_attn.q_proj.bias", &[33]),
        ("model.norm.weight", &[72]),
    ];
    let source = TableSource::random(&TENSORS, 9);
    let linears = [
        LoadPart::new("model.layers.0.mlp.down_proj", [72, 136]),
        LoadPart::new("model.layers.0.self_attn.q_proj", [33, 72]).with_bias(true),
    ];
    let table = LoadPart::new("model.embed_tokens", [50, 72]);
    for policy in ["dense", "int8", "*.down_proj=int4wo-g8-zp,*.q_proj=dense,*=w8a8"] {
        let policy: Policy = policy.parse().unwrap();
        let quantizer = CheckpointQuantizer::new(&source, Path::new("table"), &policy);
        check_part_source::<Flex, _>(&quantizer, &linears, &table, &FlexDevice);

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let tensors = TENSORS.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
        quantizer.save(&file, &tensors).unwrap();
        let stored = TableSource::read(&file, 0);
        let checkpoint = QuantizedCheckpoint::open(&stored, &file).unwrap();
        check_part_source::<Flex, _>(&checkpoint, &linears, &table, &FlexDevice);
    }
}
