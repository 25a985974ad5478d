//! What the seams promise, for the model of one matrix.

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};
use lightglm_testkit::{BigramLm, check_trainable_lm};
use lightglm_train::objectives::{CrossEntropy, TowardsTeacher};

type Train = Autodiff<Flex>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

#[test]
fn a_table_can_be_taught() {
    check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &CrossEntropy, &TOKENS);
}

#[test]
fn towards_a_teacher() {
    let teacher = BigramLm::<Flex>::new(12, 2, &FlexDevice);
    for (weight, temperature) in [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0)] {
        let logits = |batch: &[lightglm_core::LabelledSpan<'_>]| {
            let labelled =
                batch.iter().flat_map(|s| s.tokens.iter().zip(s.targets)).filter(|x| x.1.is_some());
            let ids: Vec<u32> = labelled.map(|x| *x.0).collect();
            Ok(<Flex as lightglm_kernels::LmBackend>::embed(teacher.table.val(), &ids))
        };
        let objective = TowardsTeacher::new(logits, weight, temperature);
        check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &objective, &TOKENS);
    }
    // At its own teacher the divergence is zero.
    let student = BigramLm::<Train>::new(12, 2, &FlexDevice);
    let own = |batch: &[lightglm_core::LabelledSpan<'_>]| {
        let labelled =
            batch.iter().flat_map(|s| s.tokens.iter().zip(s.targets)).filter(|x| x.1.is_some());
        let ids: Vec<u32> = labelled.map(|x| *x.0).collect();
        Ok(<Flex as lightglm_kernels::LmBackend>::embed(teacher.table.val(), &ids))
    };
    let targets: Vec<Option<u32>> = TOKENS.iter().map(|&t| Some(t)).collect();
    let span = lightglm_core::LabelledSpan { tokens: &TOKENS, targets: &targets };
    let objective = TowardsTeacher::new(own, 1.0, 1.0);
    let loss = lightglm_core::TrainableLm::evaluate(&student, &[span], &objective).unwrap();
    assert!(loss.abs() < 1e-4, "{loss}");
}
