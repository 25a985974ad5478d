//! GGUF's block types as matrices: the bits of the `gguf` package's own dequantization.

mod memory_source;

use std::path::Path;

use lightglm_core::StoredTensor;
use lightglm_kernels::WeightBits;
use lightglm_quant::formats::{FormatError, GGUF_BLOCK_TYPES, import_gguf};
use memory_source::MemorySource;

/// Elements of a block and its bytes.
fn block(dtype: &str) -> (usize, usize) {
    match dtype {
        "Q4_0" => (32, 18),
        "Q4_1" => (32, 20),
        "Q5_0" => (32, 22),
        "Q5_1" => (32, 24),
        "Q8_0" => (32, 34),
        "Q2_K" => (256, 84),
        "Q3_K" => (256, 110),
        "Q4_K" => (256, 144),
        "Q5_K" => (256, 176),
        "Q6_K" => (256, 210),
        "IQ4_NL" => (32, 18),
        "IQ4_XS" => (256, 136),
        _ => unreachable!("{dtype}"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The model crate's test data has random blocks of every type and the package's values
/// (`gguf_blocks.py` beside it says how they were made).
fn package_blocks() -> MemorySource {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = manifest.join("../lightglm-model/tests/data/gguf_blocks.safetensors");
    MemorySource::of_safetensors(&std::fs::read(file).unwrap())
}

#[test]
fn every_type_dequantizes_to_the_packages_bits() {
    let data = package_blocks();
    for dtype in GGUF_BLOCK_TYPES {
        let StoredTensor { parts, .. } = data.0[&format!("{dtype}.blocks")].clone();
        let bytes = parts[0].to_vec();
        let expected = data.f32s(&format!("{dtype}.values"));
        let (elements, block_bytes) = block(dtype);
        assert_eq!(bytes.len() / block_bytes, 4, "{dtype}");
        let mut source = MemorySource::default();
        // Four blocks as two rows, in one part and in one part a row.
        source.put("whole", dtype, &[2, 2 * elements], [bytes.clone()]);
        let halves = bytes.chunks(2 * block_bytes).map(<[u8]>::to_vec);
        source.put("stacked", dtype, &[2, 2 * elements], halves);
        let matrix = import_gguf(&source, "whole").unwrap();
        assert_eq!(matrix, import_gguf(&source, "stacked").unwrap(), "{dtype}");
        let values = matrix.dequantize();
        assert_eq!(values.len(), expected.len());
        for (at, (value, expected)) in values.iter().zip(&expected).enumerate() {
            // A zero's sign is not ours to keep.
            let same = value.to_bits() == expected.to_bits() || (*value == 0.0 && *expected == 0.0);
            assert!(same, "{dtype} element {at}: {value:e}, expected {expected:e}");
        }
    }
}

/// Blocks that a reader can follow with a pencil: 3c00 is 1.0, 4000 is 2.0.
#[test]
fn codes_are_the_files() {
    let mut source = MemorySource::default();
    let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
    source.put("q4", "Q4_0", &[1, 32], [[hex("0040"), nibbles.clone()].concat()]);
    source.put("q41", "Q4_1", &[1, 32], [[hex("0040003c"), nibbles].concat()]);
    source.put(
        "q8",
        "Q8_0",
        &[1, 32],
        [[hex("0040"), (240..=255).chain(0..16).collect()].concat()],
    );
    let upper_scale = hex("ff000000000000000000000000000002");
    source.put("q6k", "Q6_K", &[1, 256], [[vec![0; 192], upper_scale, hex("003c")].concat()]);

    let q4 = import_gguf(&source, "q4").unwrap();
    let codes: Vec<u8> = (0..16).chain((0..16).rev()).collect();
    assert_eq!((q4.bits, q4.group_size, &q4.codes), (WeightBits::Four, 32, &codes));
    assert_eq!((q4.scales, q4.minimums), (vec![2.0], None));
    let q41 = import_gguf(&source, "q41").unwrap();
    assert_eq!((q41.codes, q41.scales, q41.minimums), (codes, vec![2.0], Some(vec![1.0])));
    let q8 = import_gguf(&source, "q8").unwrap();
    assert_eq!((q8.bits, q8.codes), (WeightBits::Eight, (112..144).collect()));
    let q6k = import_gguf(&source, "q6k").unwrap();
    assert_eq!((q6k.group_size, q6k.codes), (16, vec![96; 256]));
    assert_eq!((q6k.scales[0], q6k.scales[1], q6k.scales[15]), (-1.0, 0.0, 2.0));
}

#[test]
fn what_does_not_fit_is_named() {
    let mut source = MemorySource::default();
    source.put("plain", "F32", &[1, 32], [vec![0; 128]]);
    source.put("vector", "Q8_0", &[32], [vec![0; 34]]);
    source.put("ragged", "Q4_K", &[2, 384], [vec![0; 432]]);
    source.put("short", "Q8_0", &[2, 32], [vec![0; 67]]);
    source.put("torn", "Q8_0", &[2, 64], [vec![0; 34], vec![0; 102]]);
    source.put("infinite", "Q8_0", &[1, 32], [[hex("007c"), vec![1; 32]].concat()]);
    source.put("empty", "Q8_0", &[0, 32], [vec![]]);
    let error = |name: &str| import_gguf(&source, name).unwrap_err();
    assert!(matches!(error("plain"), FormatError::Dtype { .. }));
    assert!(matches!(error("vector"), FormatError::Shape { .. }));
    assert!(matches!(error("ragged"), FormatError::Blocks { in_features: 384, block: 256, .. }));
    assert!(matches!(error("short"), FormatError::Length { expected: 68, actual: 67, .. }));
    assert!(matches!(error("torn"), FormatError::Length { expected: 136, actual: 136, .. }));
    assert!(matches!(error("infinite"), FormatError::Matrix { .. }));
    assert!(matches!(error("gone"), FormatError::Weights(_)));
    assert_eq!(
        error("ragged").to_string(),
        "`ragged`: rows of 384 are no multiple of the 256 elements of a Q4_K block"
    );
    assert!(import_gguf(&source, "empty").unwrap().codes.is_empty());
}
