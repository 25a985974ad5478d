//! Students that learn what a teacher computes inside: whole decoders of other widths, blocks and heads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    Activations, GradientSums, LabelledSpan, LmError, Tap, TrainableLm, WeightDtype,
    trainable_parameters,
};
use lightglm_distill::{
    Distillation, Divergence, HiddenMatching, LayerMap, LiveStates, LiveTeacher, Matched, Matching,
    ModelShape, Positions, Relation, RelationMatching, Relations, StateDistance, Widths,
};
use lightglm_kernels::LmBackend;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_testkit::check_trainable_lm;
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::trainer::{StopReason, TokenizedExample, TrainConfig, TrainEvent, Trainer};

type Train = Autodiff<Flex>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

/// Three blocks, 64 wide, queries of 4 heads and keys of 2, 16 wide.
fn teacher_config() -> GlmConfig {
    GlmConfig { num_hidden_layers: 3, vocab_size: 40, ..GlmConfig::tiny() }
}

/// Two blocks, 24 wide, queries of 6 heads and keys of 3, 8 wide, of another family.
fn student_config() -> GlmConfig {
    GlmConfig {
        model_type: ModelType::Glm,
        hidden_size: 24,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        head_dim: 8,
        intermediate_size: 40,
        vocab_size: 40,
        ..GlmConfig::tiny()
    }
}

fn load<B: LmBackend<Device = FlexDevice>>(config: &GlmConfig, seed: u64) -> DenseGlm<B> {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, seed);
    let stored = LoadPrecision::Stored;
    DenseGlm::load(config, &weights, Path::new("seeded"), stored, &FlexDevice).unwrap()
}

fn shape(config: &GlmConfig) -> ModelShape {
    ModelShape { blocks: config.num_hidden_layers, width: config.hidden_size }
}

fn matching() -> Matching {
    let teacher = load::<Flex>(&teacher_config(), 2);
    let states = move |taps: &[Tap], batch: &[LabelledSpan<'_>]| teacher.tapped(taps, batch);
    let teacher = Arc::new(LiveStates::new(states));
    Matching::new(teacher, shape(&student_config()), shape(&teacher_config()))
}

fn matched(matching: Matching, seed: u64) -> Matched<Train, DenseGlm<Train>> {
    Matched::new(load(&student_config(), seed), matching, seed, &FlexDevice)
}

fn hidden(weight: f64) -> HiddenMatching {
    let distance = StateDistance { mse: 1.0, cosine: 0.5 };
    HiddenMatching { layers: LayerMap::Uniform, weight, distance, ..HiddenMatching::default() }
}

fn relations(weight: f64) -> RelationMatching {
    let relations = Relations { heads: 4 };
    RelationMatching { weight, relations, ..RelationMatching::default() }
}

fn both(weight: f64) -> Matching {
    matching().with_hidden(hidden(weight)).unwrap().with_relations(relations(weight)).unwrap()
}

/// What the trainer is promised: spans and calls add up, blocks that are computed again give the same, and every
/// parameter's gradient, the projections' among them, is the one that differences measure.
#[test]
fn students_can_be_taught() {
    let last = HiddenMatching { layers: LayerMap::Last, positions: Positions::All, ..hidden(2.0) };
    let embedded = LayerMap::Given(vec![(0, 0), (1, 2), (1, 3)]);
    let embedded = HiddenMatching { layers: embedded, ..hidden(0.7) };
    let uniform = RelationMatching {
        layers: LayerMap::Uniform,
        of: vec![Relation::Keys, Relation::Values],
        positions: Positions::Labelled,
        ..relations(20.0)
    };
    let settings = [
        matching().with_hidden(hidden(1.0)).unwrap(),
        matching().with_hidden(last).unwrap(),
        matching().with_hidden(embedded).unwrap(),
        matching().with_relations(relations(20.0)).unwrap(),
        matching().with_relations(uniform).unwrap(),
        both(1.5),
    ];
    for matching in settings {
        check_trainable_lm(&matched(matching, 1), &CrossEntropy, &TOKENS);
    }
}

/// Beside a teacher's distributions, and of one width without a projection.
#[test]
fn a_student_of_its_teachers_shape_has_nothing_to_learn_from_its_copy() {
    let config = teacher_config();
    let teacher = load::<Flex>(&config, 2);
    let logits = |batch: &[LabelledSpan<'_>]| teacher.labelled_logits(batch);
    let objective = Distillation::new(LiveTeacher::new(logits), Divergence::ForwardKl);
    let states = load::<Flex>(&config, 2);
    let states = move |taps: &[Tap], batch: &[LabelledSpan<'_>]| states.tapped(taps, batch);
    let settings = HiddenMatching { widths: Widths::Equal, ..hidden(1.0) };
    let matching = Matching::new(Arc::new(LiveStates::new(states)), shape(&config), shape(&config))
        .with_hidden(settings)
        .unwrap()
        .with_relations(relations(1.0))
        .unwrap();
    let of_seed = |seed| Matched::new(load(&config, seed), matching.clone(), 5, &FlexDevice);
    let targets = TOKENS.map(Some);
    let span = LabelledSpan::text(&TOKENS, &targets);
    let copy: Matched<Train, DenseGlm<Train>> = of_seed(2);
    assert!(copy.projections.iter().all(Option::is_none));
    let loss = copy.evaluate(&[span], &objective).unwrap();
    assert!(loss.abs() < 1e-3, "{loss}");
    check_trainable_lm(&of_seed(3), &objective, &TOKENS);
}

fn config() -> TrainConfig {
    TrainConfig {
        batch_size: 2,
        epochs: 3,
        learning_rate: 0.01,
        micro_batch_tokens: 40,
        seed: 11,
        evaluate_every: Some(2),
        checkpoint_every: Some(1000),
        ..TrainConfig::default()
    }
}

fn corpus() -> Vec<TokenizedExample> {
    let example = |i: usize| {
        let tokens: Vec<u32> = (0..8 + i).map(|at| ((at * at + 3 * i) % 40) as u32).collect();
        let learn: Vec<bool> = (0..tokens.len()).map(|at| at > 2).collect();
        TokenizedExample::new(tokens, &learn, i)
    };
    (0..8).map(example).collect()
}

type Bits = BTreeMap<String, Vec<u32>>;

fn bits(model: &Matched<Train, DenseGlm<Train>>) -> Bits {
    let values = |values: burn::tensor::Tensor<Flex, 1>| {
        values.into_data().to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    trainable_parameters(model).into_iter().map(|p| (p.name, values(p.values))).collect()
}

/// Trains until `last_step`, or to the end; the loss of each step by its bits, and the parameters.
fn run(
    trainer: &Trainer<'_, Train>,
    model: Matched<Train, DenseGlm<Train>>,
    last_step: Option<u64>,
) -> (Vec<u64>, Bits, StopReason) {
    let mut losses = Vec::new();
    let mut watch = |event: &TrainEvent| match event {
        TrainEvent::Step(step) => {
            losses.push(step.loss.to_bits());
            match last_step == Some(step.step) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    };
    let (model, outcome) = trainer.run(model, &corpus(), &mut watch).unwrap();
    (losses, bits(&model), outcome.reason)
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let (config, validation) = (config(), corpus());
    let trainer = || Trainer::new(&config, &CrossEntropy).with_validation(&validation[..2]);
    let (losses, whole, _) = run(&trainer(), matched(both(1.0), 1), None);
    assert_eq!(losses.len(), 12);
    assert!(whole.contains_key("projections.1") && whole.contains_key("student.norm.weight"));
    for first in [1, 5, 11] {
        let folder = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::open(folder.path(), 2).unwrap();
        let begun = trainer().with_checkpoints(&folder, false);
        let (mut before, _, reason) = run(&begun, matched(both(1.0), 1), Some(first));
        assert_eq!(reason, StopReason::Interrupted);
        // Another process: other parameters and projections, which the checkpoint's replace.
        let resumed = trainer().with_checkpoints(&folder, true);
        let (after, end, _) = run(&resumed, matched(both(1.0), 9), None);
        before.extend(after);
        assert!(before == losses, "interrupted behind step {first}");
        assert!(end == whole, "interrupted behind step {first}");
    }
}

#[test]
fn what_counts_nothing_changes_no_bit() {
    for activations in [Activations::Keep, Activations::Recompute] {
        let config = TrainConfig { activations, ..config() };
        let trainer = Trainer::new(&config, &CrossEntropy);
        let (losses, plain, _) = run(&trainer, matched(matching(), 1), None);
        let (other_losses, mut other, _) = run(&trainer, matched(both(0.0), 1), None);
        assert_eq!(losses, other_losses);
        // They have no gradient, so they stay as they began.
        let begun = bits(&matched(both(0.0), 1));
        for pair in ["projections.0", "projections.1"] {
            assert_eq!(other.remove(pair).unwrap(), begun[pair]);
        }
        assert!(other == plain);
        // And the student alone, without anything around it.
        let mut alone = Vec::new();
        let student = load::<Train>(&student_config(), 1);
        let mut watch = |event: &TrainEvent| {
            if let TrainEvent::Step(step) = event {
                alone.push(step.loss.to_bits());
            }
            ControlFlow::Continue(())
        };
        trainer.run(student, &corpus(), &mut watch).unwrap();
        assert_eq!(alone, losses);
    }
}

/// What the teacher's states and the student's projected ones are apart falls, and so do relations.
#[test]
fn a_narrower_student_comes_closer_to_its_teacher() {
    let examples = corpus();
    let spans: Vec<_> = examples
        .iter()
        .map(|example| LabelledSpan::text(&example.tokens, &example.targets))
        .collect();
    let config = TrainConfig { epochs: 40, evaluate_every: None, ..config() };
    for (what, matching) in [
        ("hidden", matching().with_hidden(hidden(1.0)).unwrap()),
        ("relations", matching().with_relations(relations(20.0)).unwrap()),
    ] {
        // What cross-entropy has in it is taken off.
        let apart = |model: &Matched<Train, DenseGlm<Train>>| {
            let both = model.evaluate(&spans, &CrossEntropy).unwrap();
            both - model.student.evaluate(&spans, &CrossEntropy).unwrap()
        };
        let student = matched(matching, 1);
        let before = apart(&student);
        let trainer = Trainer::new(&config, &CrossEntropy);
        let mut watch = |_: &TrainEvent| ControlFlow::Continue(());
        let (student, _) = trainer.run(student, &examples, &mut watch).unwrap();
        let after = apart(&student);
        println!("{what}: {before} to {after}");
        assert!(after < 0.5 * before, "{what}: {before} to {after}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let targets = TOKENS.map(Some);
    let span = LabelledSpan::text(&TOKENS, &targets);
    let refused = |matching| {
        let student = matched(matching, 1);
        let mut sums = GradientSums::new();
        let activations = Activations::Recompute;
        let error = student.differentiate(&[span], &CrossEntropy, activations, &mut sums);
        assert!(sums.is_empty());
        let error = error.unwrap_err();
        assert_eq!(student.evaluate(&[span], &CrossEntropy).unwrap_err(), error);
        error
    };
    // Queries are 48 wide in the student and 64 in the teacher.
    for heads in [5, 3, 64] {
        let relations = RelationMatching { relations: Relations { heads }, ..relations(1.0) };
        let error = refused(matching().with_relations(relations).unwrap());
        let LmError::Objective { reason } = error else { panic!("{error}") };
        assert!(reason.contains(&format!("into {heads} relation heads")), "{reason}");
    }
    // A teacher that answers for nothing, and models that are not what was said of them.
    let silent = LiveStates::<_, Flex>::new(|_: &[Tap], _: &[LabelledSpan<'_>]| Ok(vec![]));
    let (student, teacher) = (shape(&student_config()), shape(&teacher_config()));
    let silent = Matching::new(Arc::new(silent), student, teacher).with_hidden(hidden(1.0));
    assert!(matches!(refused(silent.unwrap()), LmError::Objective { .. }));
    let states = |student, teacher| {
        let model = load::<Flex>(&teacher_config(), 2);
        let states = move |taps: &[Tap], batch: &[LabelledSpan<'_>]| model.tapped(taps, batch);
        Matching::new(Arc::new(LiveStates::new(states)), student, teacher)
            .with_hidden(hidden(1.0))
            .unwrap()
    };
    let wider = |shape: ModelShape| ModelShape { width: shape.width + 1, ..shape };
    let deeper = |shape: ModelShape| ModelShape { blocks: shape.blocks + 1, ..shape };
    assert!(matches!(refused(states(wider(student), teacher)), LmError::Objective { .. }));
    assert!(matches!(refused(states(student, wider(teacher))), LmError::Objective { .. }));
    let error = refused(states(deeper(student), teacher));
    assert_eq!(error, LmError::Tap { tap: Tap::Hidden(3), blocks: 2 });
    let error = refused(states(student, deeper(teacher)));
    assert_eq!(error, LmError::Tap { tap: Tap::Hidden(4), blocks: 3 });
}

/// A batch without a label asks nothing of the teacher.
#[test]
fn without_labels_there_is_nothing_to_learn() {
    let silent = LiveStates::<_, Flex>::new(|_: &[Tap], _: &[LabelledSpan<'_>]| {
        Err(LmError::Objective { reason: "asked".to_owned() })
    });
    let (student, teacher) = (shape(&student_config()), shape(&teacher_config()));
    let matching = Matching::new(Arc::new(silent), student, teacher).with_hidden(hidden(1.0));
    let student = matched(matching.unwrap(), 1);
    let span = LabelledSpan::text(&TOKENS, &[None; 24]);
    assert_eq!(student.evaluate(&[span], &CrossEntropy).unwrap(), 0.0);
}
