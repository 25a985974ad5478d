//! Importance is what its definitions say, computed slowly in f64.

use burn::tensor::Tensor;
use burn_flex::FlexDevice;
use lightglm::Cpu;
use lightglm::prune::{PruneOptions, importance};
use lightglm_core::{KvDtype, KvShape, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::ModelType;
use lightglm_model::decoder::{LoadPrecision, Site};

use super::fixture::{TOKENS, llama, open, teacher};

/// Of numbers near 1, summed in f64 of the same f32 activations.
const TOLERANCE: f64 = 1e-9;

/// The residual stream in front of the first block and behind each, `[T][D]`.
fn stream(folder: &std::path::Path, tokens: &[u32]) -> Vec<Vec<Vec<f64>>> {
    let checkpoint = open(folder);
    let model = checkpoint.load::<Cpu>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let shape = KvShape::of(checkpoint.config());
    let mut cache = ContiguousKvCache::new(shape, 1, tokens.len(), KvDtype::F32, &FlexDevice);
    let span = Span::text(SequenceId(0), tokens, LogitRows::Last);
    let mut seen = Vec::new();
    let mut hook = |site: Site, value: &Tensor<Cpu, 2>| {
        if matches!(site, Site::Embed | Site::Layer(_)) {
            let [_, width] = value.dims();
            let values: Vec<f32> = value.to_data().to_vec().unwrap();
            let row = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect();
            seen.push(values.chunks(width).map(row).collect());
        }
    };
    model.forward_with_hook(&[span], &mut cache, &mut hook).unwrap();
    seen
}

fn unit(row: &[f64]) -> Vec<f64> {
    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    row.iter().map(|x| x / length).collect()
}

#[test]
fn block_influence_is_one_minus_the_mean_cosine() {
    let ours = [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm];
    let ours: Vec<_> = ours.into_iter().map(|model_type| teacher(model_type, 8)).collect();
    let folders = ours.iter().map(|folder| folder.path().to_owned());
    for folder in folders.chain([llama("qwen3")]) {
        let vocab_size = open(&folder).config().vocab_size as u32;
        let tokens: Vec<u32> = TOKENS.iter().map(|token| token % vocab_size).collect();
        let (context, calibration) = (8, tokens.clone());
        let options = PruneOptions { calibration, context, ..PruneOptions::default() };
        let measured = importance(&open(&folder), &options).unwrap();
        // Two windows: of 8 tokens and of 4.
        let windows = [stream(&folder, &tokens[..8]), stream(&folder, &tokens[8..])];
        for (layer, influence) in measured.layers.iter().enumerate() {
            let cosines = windows.iter().flat_map(|stream| {
                stream[layer].iter().zip(&stream[layer + 1]).map(|(before, behind)| {
                    let pairs = unit(before).into_iter().zip(unit(behind));
                    pairs.map(|(a, b)| a * b).sum::<f64>()
                })
            });
            let expected = 1.0 - cosines.sum::<f64>() / tokens.len() as f64;
            assert!((influence - expected).abs() < TOLERANCE, "{layer}: {influence}, {expected}");
        }
    }
}

/// Shares of what a norm is given add up to all of it, and there is one list for each norm.
#[test]
fn norm_shares_are_shares() {
    for (model_type, norms) in [(ModelType::Glm4, 13), (ModelType::Glm, 7)] {
        let folder = teacher(model_type, 9);
        let calibration = TOKENS.to_vec();
        let options = PruneOptions { calibration, ..PruneOptions::default() };
        let measured = importance(&open(folder.path()), &options).unwrap();
        assert_eq!(measured.norm_shares.len(), norms);
        for (name, shares) in &measured.norm_shares {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < TOLERANCE, "{name}");
        }
        let channels: Vec<usize> = (0..64).collect();
        assert!(measured.norm_scales(&channels).is_empty());
        let half = measured.norm_scales(&channels[..32]);
        assert!(half.values().all(|scale| (0.5..1.5).contains(scale)), "{half:?}");
    }
}

/// Precision does not decide what is important: a model in bf16 is measured in bf16.
#[test]
fn a_model_in_half_precision_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let config = lightglm_model::config::GlmConfig::tiny();
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    lightglm_model::weights::write_random_checkpoint(
        folder.path(),
        &config,
        WeightDtype::Bf16,
        1,
        None,
        go_on,
    )
    .unwrap();
    let options = PruneOptions { calibration: TOKENS.to_vec(), ..PruneOptions::default() };
    let measured = importance(&open(folder.path()), &options).unwrap();
    assert_eq!((measured.layers.len(), measured.ffn[0].len()), (2, 112));
    assert_eq!((measured.heads[1].len(), measured.hidden.len()), (4, 64));
}
