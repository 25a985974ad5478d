//! Which blocks are compared, at which tokens, and what is refused before a student is trained in vain.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LabelledSpan, LmError, Tap, TrainableLm, trainable_parameters};
use lightglm_distill::{
    DistillError, Distillation, Divergence, HiddenMatching, LayerMap, LiveStates, LiveTeacher,
    Matched, Matching, ModelShape, Positions, RelationMatching, Relations, StateDistance, Widths,
};
use lightglm_testkit::BigramLm;

type Train = Autodiff<Flex>;

fn matching() -> Matching {
    let teacher = LiveStates::<_, Flex>::new(|_: &[Tap], _: &[LabelledSpan<'_>]| Ok(vec![]));
    let of_student = ModelShape { blocks: 4, width: 8 };
    Matching::new(Arc::new(teacher), of_student, ModelShape { blocks: 10, width: 12 })
}

#[test]
fn blocks_of_a_student_learn_from_blocks_of_a_teacher() {
    assert_eq!(LayerMap::Last.pairs(4, 10).unwrap(), [(4, 10)]);
    assert_eq!(LayerMap::Uniform.pairs(4, 12).unwrap(), [(1, 3), (2, 6), (3, 9), (4, 12)]);
    assert_eq!(LayerMap::Uniform.pairs(4, 10).unwrap(), [(1, 3), (2, 5), (3, 8), (4, 10)]);
    assert_eq!(LayerMap::Uniform.pairs(3, 2).unwrap(), [(1, 1), (2, 1), (3, 2)]);
    let given = vec![(0, 0), (4, 10), (4, 7)];
    assert_eq!(LayerMap::Given(given.clone()).pairs(4, 10).unwrap(), given);
    for (pair, model, layer, blocks) in [((5, 1), "student", 5, 4), ((1, 11), "teacher", 11, 10)] {
        let error = LayerMap::Given(vec![(1, 1), pair]).pairs(4, 10).unwrap_err();
        assert_eq!(error, DistillError::Layer { model, layer, blocks });
    }
    for nothing in [LayerMap::Given(vec![]).pairs(4, 10), LayerMap::Uniform.pairs(0, 3)] {
        assert!(matches!(nothing, Err(DistillError::Setting { setting: "layers", .. })));
    }
}

#[test]
fn a_span_counts_as_much_as_it_has_labels() {
    let targets = [Some(3), None, None, Some(1), None];
    let batch =
        [LabelledSpan::text(&[1; 4], &targets[..4]), LabelledSpan::text(&[1], &targets[4..])];
    assert_eq!(Positions::Labelled.weights(&batch), [1.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(Positions::All.weights(&batch), [0.5, 0.5, 0.5, 0.5, 0.0]);
}

#[test]
fn settings_that_cannot_be_met_are_refused() {
    let hidden = |settings| matching().with_hidden(settings).unwrap_err();
    let error = hidden(HiddenMatching { widths: Widths::Equal, ..HiddenMatching::default() });
    assert_eq!(error, DistillError::Width { teacher: 12, student: 8 });
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let error = hidden(HiddenMatching { weight, ..HiddenMatching::default() });
        assert!(matches!(error, DistillError::Setting { setting: "hidden weight", .. }), "{error}");
        let distance = StateDistance { mse: weight, cosine: 0.0 };
        let error = hidden(HiddenMatching { distance, ..HiddenMatching::default() });
        assert!(matches!(error, DistillError::Setting { setting: "mse", .. }), "{error}");
    }
    let layers = LayerMap::Given(vec![(9, 1)]);
    let error = hidden(HiddenMatching { layers, ..HiddenMatching::default() });
    assert!(matches!(error, DistillError::Layer { .. }), "{error}");

    let relations = |settings| matching().with_relations(settings).unwrap_err();
    let default = RelationMatching::default;
    let error = relations(RelationMatching { weight: -1.0, ..default() });
    assert!(matches!(error, DistillError::Setting { setting: "relation weight", .. }), "{error}");
    let error = relations(RelationMatching { relations: Relations { heads: 0 }, ..default() });
    assert!(matches!(error, DistillError::RelationHeads { heads: 0, .. }), "{error}");
    let error = relations(RelationMatching { of: vec![], ..default() });
    assert!(matches!(error, DistillError::Setting { setting: "relations", .. }), "{error}");
    for pair in [(0, 1), (1, 0)] {
        let layers = LayerMap::Given(vec![pair]);
        let error = relations(RelationMatching { layers, ..default() });
        assert!(matches!(error, DistillError::Setting { setting: "layers", .. }), "{error}");
    }
}

/// A model of one matrix shows nothing of its inside.
#[test]
fn a_student_without_an_inside_says_so() {
    let student = || BigramLm::<Train>::new(12, 1, &FlexDevice);
    let matched = |matching| Matched::new(student(), matching, 3, &FlexDevice);
    let span = LabelledSpan::text(&[1, 2], &[Some(2), Some(3)]);
    let teacher = LiveTeacher::new(|batch: &[LabelledSpan<'_>]| -> Result<_, LmError> {
        let rows = batch.iter().map(LabelledSpan::labels).sum();
        Ok(Tensor::<Flex, 2>::zeros([rows, 12], &FlexDevice))
    });
    let objective = Distillation::new(teacher, Divergence::ForwardKl);
    let hidden = |weight| {
        let settings = HiddenMatching { weight, layers: LayerMap::Uniform, ..Default::default() };
        matching().with_hidden(settings).unwrap()
    };
    let error = matched(hidden(1.0)).evaluate(&[span], &objective).unwrap_err();
    assert_eq!(error, LmError::Tap { tap: Tap::Hidden(1), blocks: 0 });
    // Nothing is asked of it where nothing counts.
    let expected = student().evaluate(&[span], &objective).unwrap();
    for nothing in [matching(), hidden(0.0)] {
        let value = matched(nothing).evaluate(&[span], &objective).unwrap();
        assert_eq!(value.to_bits(), expected.to_bits());
    }
    let names: Vec<_> = trainable_parameters(&matched(hidden(1.0)))
        .into_iter()
        .map(|parameter| (parameter.name, parameter.shape))
        .collect();
    let named = |name: &str, shape: [usize; 2]| (name.to_owned(), shape.to_vec());
    let projections = (0..4).map(|pair| named(&format!("projections.{pair}"), [12, 8]));
    let expected: Vec<_> =
        [named("student.table", [12, 12])].into_iter().chain(projections).collect();
    assert_eq!(names, expected);
}
