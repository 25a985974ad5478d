//! What nothing can be learnt from is told by its name.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_distill::{
    DistillError, Distillation, Divergence, LiveTeacher, TailSample, TeacherRows, TopRow,
};

fn refused(
    vocab_size: usize,
    teacher: Vec<f32>,
    change: impl Fn(f64, f64) -> (f64, f64),
) -> String {
    let rows = teacher.len() / vocab_size;
    let teacher = LiveTeacher::<_, Flex>::new(|_: &[LabelledSpan<'_>]| -> Result<_, LmError> {
        Ok(Tensor::from_data(TensorData::new(teacher.clone(), [rows, vocab_size]), &FlexDevice))
    });
    let (weight, temperature) = change(1.0, 1.0);
    let objective = Distillation::new(teacher, Divergence::ForwardKl)
        .with_weight(weight)
        .with_temperature(temperature);
    let logits: Tensor<Flex, 2> = Tensor::zeros([2, 3], &FlexDevice);
    let span = LabelledSpan::text(&[0, 0], &[Some(0), Some(1)]);
    match objective.loss(logits, &[span]) {
        Err(LmError::Objective { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_teacher_that_does_not_fit_is_refused() {
    let same = |weight, temperature| (weight, temperature);
    let vocabulary = refused(4, vec![0.0; 8], same);
    assert_eq!(vocabulary, "the teacher knows 4 tokens, the student 3: they need one vocabulary");
    assert_eq!(refused(3, vec![0.0; 9], same), "the teacher gave 3 rows for 2 labelled tokens");
    let nan = refused(3, vec![0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0], same);
    assert_eq!(nan, "row 1 of the teacher: the logit of token 1 is NaN");
    let infinite = refused(3, vec![0.0, 0.0, f32::INFINITY, 0.0, 0.0, 0.0], same);
    assert_eq!(infinite, "row 0 of the teacher: the logit of token 2 is inf");
    let nothing = refused(3, vec![f32::NEG_INFINITY; 6], same);
    assert_eq!(nothing, "row 0 of the teacher: the logit of token 0 is -inf");
    for (weight, temperature, words) in [
        (1.5, 1.0, "weight is 1.5"),
        (f64::NAN, 1.0, "weight is NaN"),
        (1.0, 0.0, "temperature is 0"),
        (1.0, f64::INFINITY, "temperature is inf"),
    ] {
        let told = refused(3, vec![0.0; 6], |_, _| (weight, temperature));
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn settings_are_checked() {
    for beta in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(Divergence::JensenShannon { beta }.check().is_err(), "{beta}");
    }
    for alpha in [1.0, -0.1, f64::NAN] {
        assert!(Divergence::SkewKl { alpha }.check().is_err(), "{alpha}");
        assert!(Divergence::SkewReverseKl { alpha }.check().is_err(), "{alpha}");
    }
}

#[test]
fn likeliest_tokens_are_checked() {
    let wrong = [
        (vec![1, 1], vec![-1.0, -1.0], "ascend"),
        (vec![2, 1], vec![-1.0, -1.0], "ascend"),
        (vec![1], vec![], "other tokens"),
        (vec![1], vec![0.5], "above 1"),
        (vec![1], vec![f32::NAN], "above 1, or none"),
        (vec![0, 1], vec![-0.1, -0.1], "more than 1"),
    ];
    for (ids, log_probs, words) in wrong {
        let error = TopRow::new(ids, log_probs).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let row = TopRow::new(vec![3], vec![0.25_f32.ln()]).unwrap();
    assert!((row.log_tail().exp() - 0.75).abs() < 1e-6);
    let beyond = TeacherRows::top(vec![row.clone()], 3, 1.0).unwrap_err();
    assert_eq!(beyond.to_string(), "row 0 of the teacher: token 3 is not below 3");
    let rows = TeacherRows::top(vec![row], 5, 1.0).unwrap();
    let other = Divergence::ForwardKl.losses(&rows, &[0.0; 5], 2.0).unwrap_err();
    assert_eq!(other, DistillError::Temperature { teacher: 1.0, wanted: 2.0 });
}

#[test]
fn samples_are_checked() {
    for (ids, log_shares, weights, words) in [
        (vec![], vec![], vec![], "no tokens"),
        (vec![2, 1], vec![-1.0; 2], vec![1.0; 2], "descend"),
        (vec![1, 1], vec![-1.0], vec![1.0; 2], "other tokens"),
        (vec![1, 1], vec![-1.0; 2], vec![1.0], "other tokens"),
        (vec![1], vec![0.5], vec![1.0], "above 1"),
        (vec![1], vec![f32::NAN], vec![1.0], "or none"),
        (vec![1], vec![-1.0], vec![0.0], "weight"),
        (vec![1], vec![-1.0], vec![f32::INFINITY], "weight"),
    ] {
        let error = TailSample::new(ids, log_shares, weights).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let sample = TailSample::new(vec![4, 4, 6], vec![-3.0; 3], vec![2.0; 3]).unwrap();
    let row = TopRow::new(vec![3, 6], vec![-1.0, -2.0]).unwrap();
    let error = row.with_sample(sample.clone()).unwrap_err().to_string();
    assert!(error.contains("token 6 is in its sample and among the likeliest"), "{error}");
    let whole = TopRow::of_logits(&[0.0, 1.0], 2, 1.0).unwrap();
    assert!(whole.with_sample(sample.clone()).is_err());
    let row = TopRow::new(vec![3], vec![-1.0]).unwrap().with_sample(sample).unwrap();
    let beyond = TeacherRows::top(vec![row], 5, 1.0).unwrap_err().to_string();
    assert_eq!(beyond, "row 0 of the teacher: token 6 of its sample is not below 5");
}
