//! GGUF: dequantization of every block type.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_model::weights::{GgmlType, dequantize, parse_safetensors_header};

const ALL_TYPES: [GgmlType; 15] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::Bf16,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q2K,
    GgmlType::Q3K,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
    GgmlType::Iq4Nl,
    GgmlType::Iq4Xs,
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Blocks that a reader can follow with a pencil: 3c00 is 1.0, 4000 is 2.0.
#[test]
fn blocks_made_by_hand() {
    let values = |ggml_type: GgmlType, bytes: &[u8]| {
        let mut out = vec![0.0; ggml_type.block_elements()];
        dequantize(ggml_type, bytes, &mut out);
        out
    };
    let q8 = values(
        GgmlType::Q8_0,
        &[hex("0040"), (0..32).map(|i| i - 16).map(|i: i8| i as u8).collect()].concat(),
    );
    assert_eq!(q8, (-16..16).map(|i| 2.0 * i as f32).collect::<Vec<_>>());
    let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
    let q4 = values(GgmlType::Q4_0, &[hex("0040"), nibbles.clone()].concat());
    assert_eq!((q4[0], q4[15], q4[16], q4[31]), (-16.0, 14.0, 14.0, -16.0));
    let q4 = values(GgmlType::Q4_1, &[hex("0040003c"), nibbles.clone()].concat());
    assert_eq!((q4[0], q4[15], q4[16], q4[31]), (1.0, 31.0, 31.0, 1.0));
    let q5 = values(GgmlType::Q5_0, &[hex("0040"), hex("01000080"), nibbles.clone()].concat());
    assert_eq!((q5[0], q5[15], q5[16], q5[31]), (0.0, -2.0, -2.0, 0.0));
    let q5 = values(GgmlType::Q5_1, &[hex("0040003c"), hex("01000080"), nibbles].concat());
    assert_eq!((q5[0], q5[15], q5[16], q5[31]), (33.0, 31.0, 31.0, 33.0));
    // Scales 63 for the first group, minima 1; all quants 15.
    let q4k = values(
        GgmlType::Q4K,
        &[hex("003c0040"), hex("3f0000000100000000000000"), vec![0xff; 128]].concat(),
    );
    assert_eq!((q4k[0], q4k[31], q4k[32], q4k[255]), (943.0, 943.0, 0.0, 0.0));
    let q6k = values(
        GgmlType::Q6K,
        &[vec![0; 192], hex("ff000000000000000000000000000002"), hex("003c")].concat(),
    );
    assert_eq!((q6k[0], q6k[16], q6k[255]), (32.0, 0.0, -64.0));
}

/// `gguf_blocks.py` beside the data says how it was made.
#[test]
fn random_blocks_are_those_of_the_gguf_package() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf_blocks.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = parse_safetensors_header(&bytes, &path).unwrap();
    let tensors: BTreeMap<&str, &[u8]> =
        header.tensors.iter().map(|(name, t)| (name.as_str(), &bytes[t.range.clone()])).collect();
    for ggml_type in &ALL_TYPES[1..] {
        let name = ggml_type.name();
        let blocks = tensors[format!("{name}.blocks").as_str()];
        let expected: Vec<u32> = tensors[format!("{name}.values").as_str()]
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let mut values = vec![0f32; expected.len()];
        dequantize(*ggml_type, blocks, &mut values);
        let differ = values.iter().zip(&expected).position(|(value, bits)| {
            // A zero's sign is not ours to keep.
            value.to_bits() != *bits && *value != f32::from_bits(*bits)
        });
        assert_eq!(differ, None, "{name}");
    }
}

#[test]
fn every_type_has_whole_blocks() {
    for ggml_type in ALL_TYPES {
        let mut out = vec![1.0; 3 * ggml_type.block_elements()];
        dequantize(ggml_type, &vec![0; 3 * ggml_type.block_bytes()], &mut out);
        assert!(out.iter().all(|value| *value == 0.0), "{}", ggml_type.name());
    }
}
