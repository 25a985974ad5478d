//! Quantized models, from end to end: saved, opened, and compared with the dense one.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm::generic::{Loaded, load, load_source};
use lightglm::{Error, LoadOptions, ProgressSink, Weights};
use lightglm_core::{KvDtype, KvShape};
use lightglm_core::{LogitRows, SequenceId, Span, WeightDtype, WeightError};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::checkpoint::{Checkpoint, CheckpointError};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::LoadPrecision;
use lightglm_model::weights::{SeededWeights, write_random_checkpoint};
use lightglm_quant::{CheckpointQuantizer, Policy};

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn config(tied: bool) -> GlmConfig {
    GlmConfig { tie_word_embeddings: tied, ..GlmConfig::tiny() }
}

fn cache(config: &GlmConfig, sequences: usize) -> ContiguousKvCache<Flex> {
    ContiguousKvCache::new(KvShape::of(config), sequences, 32, KvDtype::F32, &FlexDevice)
}

fn logits(served: &Loaded<Flex>, config: &GlmConfig) -> Vec<f32> {
    let span = Span::text(SequenceId(0), &TOKENS, LogitRows::All);
    let logits = served.model.forward(&[span], &mut cache(config, 1)).unwrap();
    logits.into_data().to_vec().unwrap()
}

/// As the folder has it.
fn stored(checkpoint: &Checkpoint) -> Result<Loaded<Flex>, Error> {
    load(checkpoint, &LoadOptions::default(), &FlexDevice)
}

/// Held otherwise.
fn held(checkpoint: &Checkpoint, weights: Weights) -> Result<Loaded<Flex>, Error> {
    load(checkpoint, &LoadOptions { weights, ..LoadOptions::default() }, &FlexDevice)
}

/// Quantized in memory.
fn quantized(weights: &SeededWeights, policy: &Policy) -> Loaded<Flex> {
    let (file, progress) = (Path::new("seeded"), ProgressSink::default());
    let config = weights.config().expect("of a decoder");
    let quantized = lightglm::generic::quantize_source::<Flex>(
        config,
        weights,
        file,
        policy,
        &progress,
        &FlexDevice,
    );
    quantized.unwrap().into_loaded(&FlexDevice)
}

/// The root mean square of the difference over that of `expected`.
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let gap: f64 = actual.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (gap / expected.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// A folder as the `quantize` example writes it: weights, then config.json.
fn saved(weights: &SeededWeights, policy: &Policy) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = weights.config().expect("of a decoder");
    CheckpointQuantizer::new(weights, Path::new("seeded"), policy)
        .save(&folder.path().join("model.safetensors"), &config.tensor_shapes())
        .unwrap();
    fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    folder
}

#[test]
fn saved_and_quantized_in_memory_are_one_model_near_the_dense_one() {
    // Of the size of the dense logits: about twice what was measured.
    let cases = [
        ("int8wo", 0.04),
        ("int8", 0.06),
        ("w8a8", 0.06),
        ("int4wo-g32", 0.45),
        ("int4", 0.55),
        ("*.down_proj=int8,*=int4wo-g32-zp", 0.4),
    ];
    for tied in [false, true] {
        let config = config(tied);
        let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 5);
        let file = Path::new("seeded");
        let dense = load_source(&config, &weights, file, WeightDtype::Bf16, &FlexDevice);
        let dense = logits(&dense.unwrap(), &config);
        for (policy, tolerance) in cases {
            let policy: Policy = policy.parse().unwrap();
            let in_memory = quantized(&weights, &policy);
            let folder = saved(&weights, &policy);
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            let mapped = stored(&checkpoint).unwrap();
            assert!(mapped.integer && in_memory.integer);
            assert_eq!(mapped.scheme, in_memory.scheme);
            assert_eq!(mapped.model.bytes_read(3), in_memory.model.bytes_read(3));
            let (a, b) = (logits(&mapped, &config), logits(&in_memory, &config));
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&a), bits(&b), "{policy}");
            let distance = distance(&a, &dense);
            println!("{policy}, tied {tied}: {distance:.4}");
            assert!(distance < tolerance, "{policy}, tied {tied}: {distance}");
        }
        // Nothing quantized is the dense model itself.
        let folder = saved(&weights, &"dense".parse().unwrap());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let same = stored(&checkpoint).unwrap();
        assert_eq!(logits(&same, &config), dense);
    }
}

#[test]
fn logits_do_not_depend_on_the_batch() {
    let config = config(false);
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 6);
    for policy in ["int8", "int4", "w8a8", "int8wo", "int4wo-g32-zp"] {
        let policy: Policy = policy.parse().unwrap();
        let served = quantized(&weights, &policy);
        let alone = logits(&served, &config);
        for others in [1_usize, 3, 16] {
            let mut cache = cache(&config, others + 1);
            let prompts: Vec<Vec<u32>> =
                (0..others as u32).map(|i| (0..=i).map(|j| 7 * i + j).collect()).collect();
            let rows = LogitRows::All;
            let mut spans: Vec<Span<'_>> = prompts
                .iter()
                .enumerate()
                .map(|(i, tokens)| Span::text(SequenceId(i + 1), tokens, rows))
                .collect();
            let at = others / 2;
            spans.insert(at, Span::text(SequenceId(0), &TOKENS, rows));
            let before: usize = prompts[..at].iter().map(Vec::len).sum();
            let all = served.model.forward(&spans, &mut cache).unwrap().into_data();
            let all = all.to_vec::<f32>().unwrap();
            let together = &all[before * config.vocab_size..][..alone.len()];
            let same = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{policy} among {others} others");
        }
    }
}

#[test]
fn a_quantized_folder_is_not_mistaken_for_another() {
    let config = config(false);
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 5);
    let policy: Policy = "int8".parse().unwrap();
    let folder = saved(&weights, &policy);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    // As a dense one.
    match checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap_err() {
        CheckpointError::Weights(WeightError::Quantized { file }) => {
            assert_eq!(file, folder.path());
        }
        other => panic!("{other}"),
    }
    // Twice, or in another precision.
    for weights in [Weights::Policy(policy), Weights::Dtype(WeightDtype::F32)] {
        match held(&checkpoint, weights) {
            Err(Error::AlreadyQuantized { file }) => assert_eq!(file, folder.path()),
            other => panic!("{:?}", other.err()),
        }
    }
    // With the configuration of another model.
    let wider = GlmConfig { intermediate_size: 2 * config.intermediate_size, ..config.clone() };
    fs::write(folder.path().join("config.json"), wider.to_json()).unwrap();
    let error = match stored(&Checkpoint::open(folder.path()).unwrap()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("another model's configuration was taken"),
    };
    assert!(error.contains("gate_up_proj") && error.contains("configuration"), "{error}");
    fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    // Cut short at many places: never a panic, always the file's name.
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for length in [0, 7, 8, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length.min(bytes.len() - 1)]).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{length}: {error}");
    }
}

#[test]
fn a_dense_folder_is_quantized_while_it_is_loaded() {
    let config = config(true);
    let folder = tempfile::tempdir().unwrap();
    let mut progress = |_| ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), &config, WeightDtype::Bf16, 5, None, &mut progress)
        .unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.weights().metadata("lightglm.quantization").is_none());
    let policy: Policy = "int4".parse().unwrap();
    let served = held(&checkpoint, Weights::Policy(policy.clone())).unwrap();
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 5);
    assert_eq!(logits(&served, &config), logits(&quantized(&weights, &policy), &config));
    // A rule that matches nothing is a typing error, and is told.
    let policy: Policy = "*.donw_proj=int8,*=int4".parse().unwrap();
    let error = match held(&checkpoint, Weights::Policy(policy)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("a rule without a matrix was taken"),
    };
    assert!(error.contains("donw_proj"), "{error}");
}
