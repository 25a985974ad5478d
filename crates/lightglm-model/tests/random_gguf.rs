//! GGUF files of random weights: read back as what they were rounded from, and nothing left behind.

use std::ops::ControlFlow;

use lightglm_core::{WeightDtype, WeightError, WeightSource};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::{
    GgmlType, GgufCheckpoint, RANDOM_GGUF_TYPES, SeededWeights, check_tensors, write_random_gguf,
};

fn shape() -> GlmConfig {
    GlmConfig { intermediate_size: 96, ..GlmConfig::tiny() }
}

fn floats(source: &dyn WeightSource, name: &str) -> Vec<f32> {
    let view = source.tensor(name).unwrap();
    assert_eq!(view.dtype, WeightDtype::F32);
    view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn what_is_written_is_read_as_the_seeded_weights_rounded() {
    let folder = tempfile::tempdir().unwrap();
    for kind in RANDOM_GGUF_TYPES {
        let file = folder.path().join("new/folder").join(kind.name());
        let mut elements = 0;
        let mut progress = |done| {
            elements += done;
            ControlFlow::Continue(())
        };
        write_random_gguf(&file, &shape(), kind, 3, &mut progress).unwrap();
        assert_eq!(elements, shape().num_parameters());
        let checkpoint = GgufCheckpoint::open(&file).unwrap();
        let config = checkpoint.config().unwrap();
        assert_eq!(config.tensor_shapes(), shape().tensor_shapes());
        assert_eq!(config.rope, shape().rope);
        check_tensors(&checkpoint, &config, &file).unwrap();
        assert_eq!(checkpoint.vocabulary().unwrap().tokens.len(), config.vocab_size);
        let seeded = SeededWeights::new(shape(), WeightDtype::F32, 3);
        for (name, tensor) in shape().tensor_shapes() {
            let (read, made) = (floats(&checkpoint, &name), floats(&seeded, &name));
            if tensor.len() == 1 {
                assert_eq!(read, made, "{name}");
                continue;
            }
            // Half of a step, or with 4 bits a whole one at the end of the range that has no 8, and
            // the scale's own rounding to f16.
            let (levels, most) = if kind == GgmlType::Q4_0 { (8.0, 1.0) } else { (127.0, 0.5) };
            for (read, made) in read.chunks(32).zip(made.chunks(32)) {
                let step = made.iter().fold(0f32, |most, v| most.max(v.abs())) / levels;
                for (read, made) in read.iter().zip(made) {
                    let slack = step * most + made.abs() / 1024.0;
                    assert!((read - made).abs() <= slack, "{name}: {read} for {made}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_said_and_nothing_stays_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let write = |config: &GlmConfig, kind| {
        write_random_gguf(&file, config, kind, 0, &mut |_| ControlFlow::Continue(()))
    };
    let error = write(&shape(), GgmlType::Q4K).unwrap_err();
    assert!(matches!(error, WeightError::UnsupportedDtype { .. }), "{error}");
    let ragged = GlmConfig { intermediate_size: 100, ..GlmConfig::tiny() };
    let error = write(&ragged, GgmlType::Q4_0).unwrap_err().to_string();
    assert!(error.contains("down_proj.weight`: rows of 100 are no whole blocks of 32"), "{error}");
    let small = GlmConfig { vocab_size: 200, eos_token_ids: vec![], pad_token_id: None, ..shape() };
    let error = write(&small, GgmlType::Q4_0).unwrap_err().to_string();
    assert!(error.contains("no room for 256 bytes"), "{error}");
    let stop =
        write_random_gguf(&file, &shape(), GgmlType::Q8_0, 0, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stop, Err(WeightError::Io { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
