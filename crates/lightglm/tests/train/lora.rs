//! LoRA on a whole decoder: dropout, several adapters, merging, a quantized base, packed batches, and
//! the way through files.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm::generic::matrices;
use lightglm_core::trainable_parameters;
use lightglm_core::{
    Activations, GradientSums, LabelledSpan, LogitRows, ProjectionLayout, SequenceId, Span,
    TrainableLm, WeightDtype,
};
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseEmbedding, DenseGlm, DenseLinear, Glm, LoadPrecision, SwiGlu};
use lightglm_model::weights::SeededWeights;
use lightglm_train::lora::{Lora, LoraConfig, LoraLinear, LowRank};
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::peft::{CONFIG_FILE, MODEL_FILE, PeftError, load_adapter, save_adapter};
use lightglm_train::trainer::{TokenizedExample, TrainConfig, TrainEvent, Trainer};

type Train = Autodiff<Flex>;
type LoraDense<B> = LoraLinear<B, DenseLinear<B>>;
type LoraGlm<B> = Glm<B, LoraDense<B>, SwiGlu<B, LoraDense<B>>, DenseEmbedding<B>>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

/// Sums of the same numbers in another order, of the largest.
const REORDERED: f32 = 1e-5;

/// A weight that has been added to and rounded, of the largest logit.
const MERGED: f32 = 1e-5;

fn config() -> GlmConfig {
    GlmConfig { vocab_size: 40, ..GlmConfig::tiny() }
}

fn dense<B: LmBackend<Device = FlexDevice>>() -> DenseGlm<B> {
    let weights = SeededWeights::new(config(), WeightDtype::F32, 3);
    DenseGlm::load(&config(), &weights, Path::new("seeded"), LoadPrecision::Stored, &FlexDevice)
        .unwrap()
}

/// An adapter on every projection whose `B` is not zero, so that it does something.
fn adapter(name: &str, seed: u64, dropout: f64) -> Lora {
    let lora = LoraConfig { rank: 4, alpha: 8.0, dropout, ..LoraConfig::default() };
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * 0.1
    };
    let targets = matrices(&config()).into_iter().filter(|(name, _)| lora.is_target(name));
    let low_rank = |[n, k]: [usize; 2], number: &mut dyn FnMut() -> f32| LowRank {
        rank: 4,
        scale: lora.scale(),
        shape: [n, k],
        lora_a: (0..4 * k).map(|_| number()).collect(),
        lora_b: (0..n * 4).map(|_| number()).collect(),
    };
    let all: BTreeMap<String, LowRank> =
        targets.map(|(name, shape)| (name, low_rank(shape, &mut number))).collect();
    Lora::with_matrices(name, lora, all).unwrap()
}

fn wrapped<B: LmBackend>(model: DenseGlm<B>, lora: &Lora) -> LoraGlm<B> {
    model.no_grad().map_linears(&mut |name: &str, linear| lora.wrap(name, linear))
}

fn switched<B: LmBackend>(model: LoraGlm<B>, name: &str, on: bool) -> LoraGlm<B> {
    model.map_linears(&mut |_: &str, mut linear: LoraDense<B>| {
        linear.enable(name, on);
        linear
    })
}

fn logits<B, L>(model: &Glm<B, L, SwiGlu<B, L>, DenseEmbedding<B>>) -> Vec<f32>
where
    B: LmBackend,
    L: lightglm_core::Linear<B>,
{
    let span = Span::text(SequenceId(0), &TOKENS, LogitRows::All);
    model.forward_uncached(&[span]).unwrap().into_data().to_vec().unwrap()
}

/// The next token everywhere but at the end.
fn targets(tokens: &[u32]) -> Vec<Option<u32>> {
    (1..=tokens.len()).map(|i| tokens.get(i).copied()).collect()
}

/// Loss and gradients by name.
fn gradients<M: TrainableLm<Train>>(
    model: &M,
    sequences: &[&[u32]],
    activations: Activations,
) -> (f64, BTreeMap<String, Vec<f32>>) {
    let targets: Vec<_> = sequences.iter().map(|tokens| targets(tokens)).collect();
    let spans = sequences.iter().zip(&targets);
    let spans: Vec<_> =
        spans.map(|(tokens, targets)| LabelledSpan::text(tokens, targets)).collect();
    let mut sums = GradientSums::new();
    let loss = model.differentiate(&spans, &CrossEntropy, activations, &mut sums).unwrap();
    let values = |x: Tensor<Flex, 1>| x.into_data().to_vec::<f32>().unwrap();
    let all = trainable_parameters(model).into_iter().map(|p| {
        let gradient = sums.take(p.id).unwrap_or_else(|| panic!("{} has no gradient", p.name));
        (p.name, values(gradient))
    });
    (loss, all.collect())
}

/// The largest difference over the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

#[track_caller]
fn assert_bits(name: &str, a: &[f32], b: &[f32]) {
    let same = a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
    assert!(same, "{name}: {} apart", difference(a, b));
}

#[track_caller]
fn assert_same(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>, tolerance: f32) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, expected) in b {
        let apart = difference(&a[name], expected);
        assert!(apart <= tolerance, "{name}: {apart}");
    }
}

#[test]
fn dropout_is_the_same_when_a_block_is_computed_again() {
    let lora = adapter("default", 1, 0.3);
    let model = wrapped(dense::<Train>(), &lora);
    let with = |seed: u64, activations| {
        lora.dropout_seed().set(seed);
        let outcome = gradients(&model, &[&TOKENS, &TOKENS[5..17]], activations);
        lora.dropout_seed().set(0);
        outcome
    };
    let (kept_loss, kept) = with(77, Activations::Keep);
    let (again_loss, again) = with(77, Activations::Recompute);
    assert!((kept_loss - again_loss).abs() < 1e-5 * kept_loss, "{kept_loss} {again_loss}");
    assert_same(&again, &kept, REORDERED);
    for activations in [Activations::Keep, Activations::Recompute] {
        let (a, b) = (with(77, activations), with(77, activations));
        assert_eq!(a, b, "the seed decides, to the bit");
        let (off, other) = (with(0, activations), with(78, activations));
        assert!(off.0 != a.0 && other.0 != a.0 && other.0 != off.0);
        let none = wrapped(dense::<Train>(), &adapter("default", 1, 0.0));
        assert_eq!(off.0, gradients(&none, &[&TOKENS, &TOKENS[5..17]], activations).0);
    }
}

fn losses(lora: &Lora, config: &TrainConfig) -> (Vec<f64>, LoraGlm<Train>) {
    let tokens = |i: usize| TOKENS[i..i + 12].to_vec();
    let examples: Vec<_> =
        (0..12).map(|i| TokenizedExample::new(tokens(i), &[true; 12], i)).collect();
    let mut losses = Vec::new();
    let mut watch = |event: &TrainEvent| {
        match event {
            TrainEvent::Step(step) => losses.push(step.loss),
            TrainEvent::Validation { loss, .. } => losses.push(*loss),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let trainer = Trainer::new(config, &CrossEntropy).with_validation(&examples[..3]);
    let trainer = trainer.with_dropout(lora.dropout_seed());
    let (model, _) = trainer.run(wrapped(dense(), lora), &examples, &mut watch).unwrap();
    (losses, model)
}

#[test]
fn training_with_dropout() {
    let config = TrainConfig {
        batch_size: 6,
        epochs: 4,
        learning_rate: 5e-3,
        micro_batch_tokens: 40,
        seed: 3,
        evaluate_every: Some(3),
        ..TrainConfig::default()
    };
    let fresh = |dropout| {
        let lora = LoraConfig { rank: 4, dropout, ..LoraConfig::default() };
        Lora::new("default", lora, 5).unwrap()
    };
    let (kept, model) = losses(&fresh(0.2), &config);
    assert!(kept[kept.len() - 2] < kept[0], "{kept:?}");
    assert_eq!(kept, losses(&fresh(0.2), &config).0, "to the bit");
    let recompute = TrainConfig { activations: Activations::Recompute, ..config.clone() };
    let again = losses(&fresh(0.2), &recompute).0;
    let close = kept.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-4 * a);
    assert!(close, "{kept:?} {again:?}");
    assert_ne!(kept, losses(&fresh(0.2), &TrainConfig { seed: 4, ..config.clone() }).0);
    assert_ne!(kept, losses(&fresh(0.0), &config).0);
    // Behind the run dropout is off.
    assert_bits("again", &logits(&model), &logits(&model));
    assert!(difference(&logits(&model.valid()), &logits(&model)) < REORDERED);
}

#[test]
fn several_adapters() {
    let (a, b) = (adapter("a", 1, 0.0), adapter("b", 2, 0.0));
    let model = || {
        let model = wrapped(dense::<Train>(), &a);
        model.map_linears(&mut |name: &str, linear| b.add(name, linear))
    };
    let base = logits(&dense::<Train>());
    let only = |lora: &Lora| logits(&wrapped(dense::<Train>(), lora));
    let (only_a, only_b, both) = (only(&a), only(&b), logits(&model()));
    for (name, other) in [("base", &base), ("a", &only_a), ("b", &only_b)] {
        assert!(difference(&both, other) > 0.01, "both are like {name}");
    }
    let without_b = switched(model(), "b", false);
    assert_bits("a alone", &logits(&without_b), &only_a);
    let inner = logits(&wrapped(dense::<Flex>(), &a));
    assert_bits("a alone, without gradients", &logits(&without_b.valid()), &inner);
    let without_a = switched(model(), "a", false);
    assert_bits("b alone", &logits(&without_a), &only_b);
    let without = switched(without_a, "b", false);
    assert_bits("none", &logits(&without), &base);
    let back = switched(switched(without, "b", true), "a", true);
    assert_bits("both", &logits(&back), &both);

    // One that is switched off learns nothing.
    let mut model = switched(model(), "b", false);
    let mut sums = GradientSums::new();
    let targets = targets(&TOKENS);
    let span = [LabelledSpan::text(&TOKENS, &targets)];
    model.differentiate(&span, &CrossEntropy, Activations::Keep, &mut sums).unwrap();
    for parameter in trainable_parameters(&model) {
        let gradient = sums.take(parameter.id);
        assert_eq!(gradient.is_some(), parameter.name.contains("adapters.0"), "{}", parameter.name);
    }
    assert!(sums.is_empty(), "the base is frozen");
    let linear = &mut model.layers[0].self_attn.q_proj;
    assert!(linear.enable("b", true) && !linear.enable("c", true));
}

#[test]
fn merging() {
    let (a, b) = (adapter("a", 1, 0.0), adapter("b", 2, 0.0));
    let model = wrapped(dense::<Flex>(), &a);
    let model = model.map_linears(&mut |name: &str, linear| b.add(name, linear));
    let base = logits(&dense::<Flex>());
    for (name, on) in [("b", true), ("b", false), ("a", false)] {
        let model = switched(switched(switched(model.clone(), "a", true), "b", true), name, on);
        let expected = logits(&model);
        let merge = |_: &str, linear: LoraDense<Flex>| linear.merge();
        let merged = model.clone().map_linears(&mut { merge });
        let apart = difference(&logits(&merged), &expected);
        assert!(apart < MERGED, "merged, {name} {on}: {apart}");
        let twice = merged.clone().map_linears(&mut { merge });
        assert_bits("merged twice", &logits(&twice), &logits(&merged));
        assert_eq!(merged.bytes_read(1), dense::<Flex>().bytes_read(1), "adapters cost nothing");
        let unmerge = |_: &str, linear: LoraDense<Flex>| linear.unmerge();
        let back = merged.map_linears(&mut { unmerge });
        let apart = difference(&logits(&back), &expected);
        assert!(apart < MERGED, "unmerged, {name} {on}: {apart}");
        let off = switched(switched(back, "a", false), "b", false);
        let apart = difference(&logits(&off), &base);
        assert!(apart < MERGED, "the base, {name} {on}: {apart}");
        let plain: DenseGlm<Flex> =
            model.map_linears(&mut |_: &str, linear: LoraDense<Flex>| linear.into_merged());
        assert!(difference(&logits(&plain), &expected) < MERGED);
    }
}

#[test]
fn spans_of_a_batch_do_not_see_each_other() {
    let lora = wrapped(dense::<Train>(), &adapter("default", 1, 0.0));
    fn check<M: TrainableLm<Train>>(model: &M) {
        let (first, second): (&[u32], &[u32]) = (&TOKENS[..13], &TOKENS[9..]);
        for activations in [Activations::Keep, Activations::Recompute] {
            let (loss, together) = gradients(model, &[first, second], activations);
            let (a_loss, a) = gradients(model, &[first], activations);
            let (b_loss, b) = gradients(model, &[second], activations);
            assert!((loss - a_loss - b_loss).abs() < 1e-5 * loss, "{loss} {a_loss} {b_loss}");
            let sum = |(name, a): (&String, &Vec<f32>)| {
                let sum = a.iter().zip(&b[name]).map(|(a, b)| a + b);
                (name.clone(), sum.collect::<Vec<f32>>())
            };
            assert_same(&together, &a.iter().map(sum).collect(), REORDERED);
        }
    }
    check(&dense::<Train>());
    check(&lora);
}

#[test]
fn through_files() {
    let lora = adapter("mine", 1, 0.1);
    let model = wrapped(dense::<Flex>(), &lora);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/here");
    save_adapter(&model, &lora, Some("zai-org/GLM-4-9B-0414"), ProjectionLayout::Glm, &path)
        .unwrap();
    let shapes: BTreeMap<String, [usize; 2]> = matrices(&config()).into_iter().collect();
    let back =
        load_adapter(&path, "back", &|name| shapes.get(name).copied(), ProjectionLayout::Glm)
            .unwrap();
    let mut modules = lora.config().target_modules.clone();
    modules.sort();
    assert_eq!(back.config(), &LoraConfig { target_modules: modules, ..lora.config().clone() });
    let loaded = wrapped(dense::<Flex>(), &back);
    assert_bits("loaded", &logits(&loaded), &logits(&model));
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join(CONFIG_FILE)).unwrap()).unwrap();
    assert_eq!(json["base_model_name_or_path"], "zai-org/GLM-4-9B-0414");
    assert_eq!((&json["peft_type"], &json["r"]), (&"LORA".into(), &4.into()));

    // One projection only, and what it is loaded for has all.
    let few = LoraConfig { target_modules: vec!["v_proj".into()], ..lora.config().clone() };
    let few = Lora::new("few", few, 7).unwrap();
    let model = wrapped(dense::<Flex>(), &few);
    save_adapter(&model, &few, None, ProjectionLayout::Glm, &path).unwrap();
    let back =
        load_adapter(&path, "back", &|name| shapes.get(name).copied(), ProjectionLayout::Glm)
            .unwrap();
    assert_eq!(back.config().target_modules, ["v_proj"]);
    wrapped(dense::<Flex>(), &back);
    assert_eq!(back.sites().len(), config().num_hidden_layers);

    // A model that has no such adapter, and a folder that is none.
    let other = wrapped(dense::<Flex>(), &adapter("other", 1, 0.0));
    let error = save_adapter(&other, &lora, None, ProjectionLayout::Glm, &path).unwrap_err();
    assert!(matches!(error, PeftError::NoAdapter { name } if name == "mine"));
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let error = save_adapter(&model, &few, None, ProjectionLayout::Glm, &file).unwrap_err();
    assert!(matches!(&error, PeftError::Io { file: named, .. } if *named == file), "{error}");
    fs::create_dir_all(file.with_extension("d").join(MODEL_FILE).join("x")).unwrap();
    let error = save_adapter(&model, &few, None, ProjectionLayout::Glm, &file.with_extension("d"))
        .unwrap_err();
    assert!(matches!(error, PeftError::Write(_)), "{error}");
    assert!(error.to_string().contains(MODEL_FILE), "{error}");

    // A model of another size.
    let narrow = |name: &str| shapes.get(name).map(|[n, k]| [*n, k / 2]);
    let error =
        load_adapter(&path, "back", &narrow, ProjectionLayout::Glm).map(|_| ()).unwrap_err();
    let PeftError::Tensor { file, name, .. } = error else { panic!("{error}") };
    assert!(file.ends_with(MODEL_FILE) && name.ends_with("v_proj.lora_A.weight"), "{name}");
}
