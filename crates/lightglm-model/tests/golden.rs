//! Logits, greedy continuations and the training loss of Hugging Face transformers.
//!
//! The `verify` example compares every inner value; this test keeps the outputs in `cargo test`.

use std::path::{Path, PathBuf};

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{CausalLm, LogitRows, SequenceId, Span};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SafetensorsCheckpoint;
use safetensors::SafeTensors;

/// f32 sums in another order than the reference's.
const TOLERANCE: f32 = 2e-4;

/// `shared/fixtures` beside the repository, or under `LIGHTGLM_SHARED`.
fn fixtures() -> Option<PathBuf> {
    let shared = std::env::var_os("LIGHTGLM_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let fixtures = shared.unwrap_or(beside).join("fixtures");
    if !fixtures.is_dir() {
        println!("skipped: {} is not there", fixtures.display());
        return None;
    }
    Some(fixtures)
}

fn ints(tensors: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let data = tensors.tensor(name).expect(name).data().chunks_exact(8);
    data.map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).expect(name).data().chunks_exact(4);
    data.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn check(folder: &Path, config: &str) {
    let config = GlmConfig::from_file(folder.join(config)).unwrap();
    let checkpoint = SafetensorsCheckpoint::open(folder).unwrap();
    let load = LoadPrecision::Stored;
    let model = DenseGlm::<Flex>::load(&config, &checkpoint, folder, load, &FlexDevice).unwrap();
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let shape = expected.tensor("leftpad.input_ids").unwrap().shape().to_vec();
    for prefix in ["nopad", "leftpad"] {
        let ids = ints(&expected, &format!("{prefix}.input_ids"));
        let mask = ints(&expected, &format!("{prefix}.attention_mask"));
        let logits = floats(&expected, &format!("{prefix}.logits"));
        let greedy = ints(&expected, &format!("{prefix}.greedy_tokens"));
        let steps = greedy.len() / shape[0];
        for row in 0..shape[0] {
            let columns = row * shape[1]..(row + 1) * shape[1];
            let first =
                columns.start + mask[columns.clone()].iter().take_while(|&&m| m == 0).count();
            let mut tokens: Vec<u32> =
                ids[first..columns.end].iter().map(|&id| id as u32).collect();
            let mut cache = ContiguousKvCache::<Flex>::new(
                KvShape::of(&config),
                1,
                shape[1] + steps,
                KvDtype::F32,
                &FlexDevice,
            );
            let v = config.vocab_size;
            for step in 0..steps {
                let span = Span::text(SequenceId(0), &tokens, LogitRows::All);
                let actual = model.forward(&[span], &mut cache).unwrap();
                let actual = actual.into_data().to_vec::<f32>().unwrap();
                if step == 0 {
                    let wanted = &logits[first * v..columns.end * v];
                    let worst = actual.iter().zip(wanted).map(|(a, e)| (a - e).abs());
                    let worst = worst.fold(0.0, f32::max);
                    assert!(worst < TOLERANCE, "{} {prefix} row {row}: {worst}", folder.display());
                }
                let last = &actual[actual.len() - v..];
                let best = (0..v).fold(0, |best, i| if last[i] > last[best] { i } else { best });
                assert_eq!(best as i64, greedy[row * steps + step], "{prefix} row {row}, {step}");
                tokens = vec![best as u32];
            }
        }
    }
}

#[test]
fn outputs_of_transformers() {
    let Some(fixtures) = fixtures() else { return };
    for folder in ["glm4", "glm4_tied", "glm4_nobias", "glm"] {
        for config in ["config.json", "config.legacy.json"] {
            check(&fixtures.join(folder), config);
        }
    }
}
