//! A student that learns from a cache learns what it would from the teacher.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    Activations, GradientSums, LabelledSpan, LmError, Objective, TrainableLm, trainable_parameters,
    with_values,
};
use lightglm_distill::{
    CacheHeader, CachedTeacher, Distillation, Divergence, LiveTeacher, TeacherCache, fill_cache,
};
use lightglm_kernels::LmBackend;
use lightglm_testkit::{BigramLm, check_trainable_lm};

use crate::text::Text;

type Train = Autodiff<Flex>;

/// A bigram model's logits, made sharper: the rows of its table are almost uniform.
fn logits(
    teacher: &BigramLm<Flex>,
    sharper: f32,
) -> impl Fn(&[LabelledSpan<'_>]) -> Result<Tensor<Flex, 2>, LmError> {
    move |batch| {
        let labelled =
            batch.iter().flat_map(|s| s.tokens.iter().zip(s.targets)).filter(|x| x.1.is_some());
        let ids: Vec<u32> = labelled.map(|x| *x.0).collect();
        Ok(Flex::embed(teacher.table.val(), &ids) * sharper)
    }
}

/// The teacher's answers to a text, in a file that is gone with the folder.
fn cached(
    folder: &tempfile::TempDir,
    (vocab_size, temperature): (usize, f64),
    teacher: &BigramLm<Flex>,
    sharper: f32,
    spans: &[LabelledSpan<'_>],
) -> CachedTeacher {
    let path = folder.path().join(format!("{vocab_size}-{temperature}.cache"));
    let header = CacheHeader { temperature, ..CacheHeader::new(vocab_size, 1, spans) };
    let live = LiveTeacher::new(logits(teacher, sharper));
    let mut watch = |_: lightglm_distill::FillProgress| ControlFlow::Continue(());
    assert!(fill_cache(&path, header, &live, spans, 256, &mut watch).unwrap().is_continue());
    CachedTeacher::new(TeacherCache::open(&path).unwrap())
}

/// The conformance check of a trainable model, every span of which the cache has.
#[test]
fn a_student_can_be_taught_by_a_cache() {
    const TOKENS: [u32; 24] =
        [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];
    let folder = tempfile::tempdir().unwrap();
    let teacher = BigramLm::<Flex>::new(12, 2, &FlexDevice);
    // The check asks about spans of its own making; a small vocabulary has them all by what is said of each token.
    for temperature in [1.0, 2.0] {
        let asked = std::cell::RefCell::new(Vec::new());
        let recording = LiveTeacher::<_, Flex>::new(|batch: &[LabelledSpan<'_>]| {
            let owned = batch.iter().map(|span| (span.tokens.to_vec(), span.targets.to_vec()));
            asked.borrow_mut().extend(owned);
            logits(&teacher, 1.0)(batch)
        });
        let live =
            Distillation::new(recording, Divergence::ForwardKl).with_temperature(temperature);
        check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &live, &TOKENS);
        let asked = asked.borrow();
        let spans: Vec<LabelledSpan<'_>> =
            asked.iter().map(|(tokens, targets)| LabelledSpan::text(tokens, targets)).collect();
        let cached = cached(&folder, (12, temperature), &teacher, 1.0, &spans);
        let objective =
            Distillation::new(cached, Divergence::ForwardKl).with_temperature(temperature);
        check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &objective, &TOKENS);
    }
}

/// The mean loss over labelled tokens.
fn loss(
    student: &BigramLm<Train>,
    objective: &dyn Objective<Train>,
    spans: &[LabelledSpan<'_>],
) -> f64 {
    let labels: usize = spans.iter().map(LabelledSpan::labels).sum();
    student.evaluate(spans, objective).unwrap() / labels as f64
}

/// Some steps downhill. A row of the table learns from the labels behind its token, one of so many.
fn trained(
    mut student: BigramLm<Train>,
    objective: &dyn Objective<Train>,
    spans: &[LabelledSpan<'_>],
    tokens: usize,
) -> BigramLm<Train> {
    let labels: usize = spans.iter().map(LabelledSpan::labels).sum();
    let rate = (8 * tokens) as f32 / labels as f32;
    for _ in 0..40 {
        let mut sums = GradientSums::new();
        student.differentiate(spans, objective, Activations::Keep, &mut sums).unwrap();
        let step = |p: lightglm_core::TrainableParameter<Flex>| {
            let gradient = sums.take(p.id).unwrap();
            (p.id, p.values - gradient * rate)
        };
        let moved: BTreeMap<_, _> = trainable_parameters(&student).into_iter().map(step).collect();
        student = with_values(student, moved);
    }
    student
}

/// The loss towards a cache is the live one within 1e-3 nat, before training and after it: where all tokens are stored,
/// and where most are in the tail.
#[test]
fn training_towards_a_cache_is_training_towards_the_teacher() {
    for (vocab_size, sharper) in [(12, 20.0), (300, 30.0), (2000, 1000.0)] {
        let folder = tempfile::tempdir().unwrap();
        // Of few tokens, so that a token has many rows, and each of them its own draws.
        let text = Text::new(60, 40, 12, 11);
        let spans = text.spans();
        let teacher = BigramLm::<Flex>::new(vocab_size, 2, &FlexDevice);
        let live =
            Distillation::new(LiveTeacher::new(logits(&teacher, sharper)), Divergence::ForwardKl);
        let cached = cached(&folder, (vocab_size, 1.0), &teacher, sharper, &spans);
        let cached = Distillation::new(cached, Divergence::ForwardKl);
        let student = BigramLm::<Train>::new(vocab_size, 1, &FlexDevice);
        let by_teacher = trained(student.clone(), &live, &spans, 12);
        let by_cache = trained(student.clone(), &cached, &spans, 12);
        let students =
            [("untrained", &student), ("teacher's", &by_teacher), ("cache's", &by_cache)];
        let losses = students.map(|(name, student)| {
            let (a, b) = (loss(student, &live, &spans), loss(student, &cached, &spans));
            println!("{vocab_size} tokens, {sharper}, {name} student: {a} live, {b} cached");
            (a, b)
        });
        assert!(losses.iter().all(|(live, cached)| (live - cached).abs() <= 1e-3), "{losses:?}");
        let [(untrained, _), (by_teacher, _), (by_cache, _)] = losses;
        assert!(by_teacher < 0.9 * untrained, "{losses:?}");
        assert!((by_teacher - by_cache).abs() <= 1e-3, "{losses:?}");
    }
}
