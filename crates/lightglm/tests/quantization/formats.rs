//! Quantized files of other programs, end to end: a real GGUF file as matrices, and an export that
//! transformers has run.

use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm::{ProgressSink, SMALL_MODEL};
use lightglm_core::{CausalLm, LogitRows, SequenceId, Span, TensorView, WeightDtype, WeightError};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::ScaleDtype;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SafetensorsCheckpoint;

use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig, CompressedTensorsScheme,
    export_compressed_tensors,
};
use lightglm_quant::formats::{GGUF_BLOCK_TYPES, ImportedCheckpoint, import_gguf};
use lightglm_quant::round_to_nearest;

/// Both sides compute in f32, in another order; logits go up to 8.
const LOGITS: f32 = 2e-5;

fn f32s(view: &TensorView) -> Vec<f32> {
    assert_eq!(view.dtype, WeightDtype::F32);
    view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The small model, or the file that `LIGHTGLM_TEST_GGUF` names.
#[test]
fn every_matrix_of_a_gguf_file_keeps_its_bits() {
    let other = std::env::var("LIGHTGLM_TEST_GGUF").ok();
    let name = other.as_deref().unwrap_or(SMALL_MODEL);
    let checkpoint = match lightglm::checkpoint::open(name, &ProgressSink::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let weights = checkpoint.weights();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for name in weights.names() {
        let dtype = match weights.stored(&name) {
            Ok(stored) => stored.dtype,
            // Gate and up of different types: no one matrix.
            Err(WeightError::UnsupportedDtype { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        if !GGUF_BLOCK_TYPES.contains(&dtype.as_str()) {
            continue;
        }
        let mut matrix = import_gguf(weights, &name).unwrap();
        let expected = f32s(&weights.tensor(&name).unwrap());
        let values = matrix.dequantize();
        assert_eq!(values.len(), expected.len(), "{name}");
        let differ = values.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differ, None, "{name} ({dtype})");
        if !dtype.ends_with("_K") {
            // Scales of these types are f16 in the file: a packed matrix may hold them so.
            let scales = (matrix.scales.clone(), matrix.minimums.clone());
            matrix.round_scales(ScaleDtype::F16);
            assert_eq!((&matrix.scales, &matrix.minimums), (&scales.0, &scales.1), "{name}");
        }
        *counts.entry(dtype).or_default() += 1;
    }
    println!("tensors: {counts:?}");
    // 30 layers of q, k, v, o, gate_up and down, and the embeddings.
    assert!(other.is_some() || counts.values().sum::<usize>() == 181);
}

/// `tools/check_compressed_tensors.py logits` recorded what transformers makes of this very export.
#[test]
fn an_export_has_the_logits_that_transformers_gives_it() {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(std::path::PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixture = shared.unwrap_or(root.join("shared")).join("fixtures/glm4");
    if !fixture.is_dir() {
        println!("skipped: {} is not there", fixture.display());
        return;
    }
    let checkpoint = Checkpoint::open(&fixture).unwrap();
    let config = std::fs::read(fixture.join("config.json")).unwrap();
    let config = serde_json::from_slice(&config).unwrap();
    let scheme = CompressedTensorsScheme::w4a16(16, true);
    let folder = tempfile::tempdir().unwrap();
    export_compressed_tensors(
        folder.path(),
        checkpoint.weights(),
        &config,
        &scheme,
        &["lm_head".to_owned()],
        &mut |layer| {
            let view = checkpoint.weights().tensor(&format!("{layer}.weight"))?;
            let shape = [view.shape[0], view.shape[1]];
            round_to_nearest(layer, &f32s(&view), shape, &scheme.weight_scheme())
        },
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();

    let text = std::fs::read(folder.path().join("config.json")).unwrap();
    let quantization = CompressedTensorsConfig::from_config_json(&text).unwrap().unwrap();
    let stored = SafetensorsCheckpoint::open(folder.path()).unwrap();
    let weights = CompressedTensorsCheckpoint::new(&stored, quantization, folder.path());
    assert_eq!(weights.layers().len(), 3 * 6);
    let config = checkpoint.config();
    let model =
        DenseGlm::<Flex>::load(config, &weights, folder.path(), LoadPrecision::Stored, &FlexDevice)
            .unwrap();

    let data = root.join("crates/lightglm-quant/tests/data/glm4_pack_quantized_logits.safetensors");
    let recorded = std::fs::read(data).unwrap();
    let recorded = safetensors::SafeTensors::deserialize(&recorded).unwrap();
    let expected: Vec<f32> = {
        let bytes = recorded.tensor("logits").unwrap().data();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let tokens: Vec<u32> = {
        let bytes = recorded.tensor("tokens").unwrap().data();
        bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    };
    let mut cache = ContiguousKvCache::<Flex>::new(
        KvShape::of(config),
        1,
        tokens.len(),
        KvDtype::F32,
        &FlexDevice,
    );
    let span = Span::text(SequenceId(0), &tokens, LogitRows::All);
    let logits = model.forward(&[span], &mut cache).unwrap().into_data().convert::<f32>();
    let logits = logits.as_slice::<f32>().unwrap();
    assert_eq!(logits.len(), expected.len());
    let off = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference of a logit: {off:e}");
    assert!(off <= LOGITS, "{off:e}");
}
