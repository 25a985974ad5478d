//! A student as the trainer sees it: the model of one matrix, towards another.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LabelledSpan, LmError, TrainableLm};
use lightglm_distill::{Distillation, Divergence, LiveTeacher};
use lightglm_kernels::LmBackend;
use lightglm_testkit::{BigramLm, check_trainable_lm};

type Train = Autodiff<Flex>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

fn logits(
    teacher: &BigramLm<Flex>,
) -> impl Fn(&[LabelledSpan<'_>]) -> Result<Tensor<Flex, 2>, LmError> {
    |batch| {
        let labelled =
            batch.iter().flat_map(|s| s.tokens.iter().zip(s.targets)).filter(|x| x.1.is_some());
        let ids: Vec<u32> = labelled.map(|x| *x.0).collect();
        Ok(Flex::embed(teacher.table.val(), &ids))
    }
}

#[test]
fn a_student_can_be_taught() {
    let teacher = BigramLm::<Flex>::new(12, 2, &FlexDevice);
    let settings = [
        (Divergence::ForwardKl, 1.0, 1.0),
        (Divergence::ForwardKl, 0.5, 2.0),
        (Divergence::ForwardKl, 0.0, 1.0),
        (Divergence::ReverseKl, 1.0, 1.0),
        (Divergence::JensenShannon { beta: 0.5 }, 0.7, 1.5),
        (Divergence::SkewKl { alpha: 0.1 }, 1.0, 1.0),
        (Divergence::SkewReverseKl { alpha: 0.1 }, 1.0, 1.0),
    ];
    for (divergence, weight, temperature) in settings {
        let objective = Distillation::new(LiveTeacher::new(logits(&teacher)), divergence)
            .with_weight(weight)
            .with_temperature(temperature);
        check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &objective, &TOKENS);
    }
}

#[test]
fn at_its_own_teacher_the_divergence_is_nothing() {
    let teacher = BigramLm::<Flex>::new(12, 2, &FlexDevice);
    let student = BigramLm::<Train>::new(12, 2, &FlexDevice);
    let targets: Vec<Option<u32>> = TOKENS.iter().map(|&t| Some(t)).collect();
    let span = LabelledSpan::text(&TOKENS, &targets);
    let objective = Distillation::new(LiveTeacher::new(logits(&teacher)), Divergence::ForwardKl);
    let loss = student.evaluate(&[span], &objective).unwrap();
    assert!(loss.abs() < 1e-4, "{loss}");
}
