//! Distances of hidden states against their definition in f64, and their derivatives against differences of that.

use lightglm_distill::{DistillError, StateDistance, StateRows};
use proptest::collection::vec;
use proptest::prelude::*;

/// As the books have it.
fn defined(distance: StateDistance, teacher: &[f64], student: &[f64]) -> f64 {
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        teacher.iter().zip(student).map(|(t, s)| of(*t, *s)).sum()
    };
    let mse = sum(&|t, s| (s - t).powi(2)) / student.len() as f64;
    let norms = sum(&|t, _| t * t).sqrt() * sum(&|_, s| s * s).sqrt();
    let cosine = if norms > 0.0 { sum(&|t, s| t * s) / norms } else { 0.0 };
    distance.mse * mse + distance.cosine * (1.0 - cosine)
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|it| f64::from(*it)).collect()
}

fn rows(values: &[f32], width: usize) -> StateRows {
    StateRows::new(values.to_vec(), width).unwrap()
}

fn pair() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>)> {
    (1..9_usize, 1..4_usize).prop_flat_map(|(width, rows)| {
        let values = || vec(-3.0..3.0_f32, width * rows);
        (Just(width), values(), values())
    })
}

proptest! {
    #[test]
    fn distances_and_gradients_are_the_definitions(
        (width, teacher, student) in pair(),
        mse in 0.0..2.0_f64,
        cosine in 0.0..2.0_f64,
    ) {
        let distance = StateDistance { mse, cosine };
        let (of_teacher, of_student) = (rows(&teacher, width), rows(&student, width));
        let losses = distance.losses(&of_teacher, &of_student).unwrap();
        let gradients = distance.gradients(&of_teacher, &of_student).unwrap();
        for (r, loss) in losses.into_iter().enumerate() {
            let (t, s) = (f64s(of_teacher.row(r)), f64s(of_student.row(r)));
            let expected = defined(distance, &t, &s);
            prop_assert!((loss - expected).abs() <= 1e-9 * (1.0 + expected.abs()));
            // Close to nothing, the direction turns faster than differences can follow.
            if s.iter().map(|s| s * s).sum::<f64>() < 1e-2 {
                continue;
            }
            for d in 0..width {
                let moved = |by: f64| {
                    let mut s = s.clone();
                    s[d] += by;
                    defined(distance, &t, &s)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let gradient = f64::from(gradients[r * width + d]);
                prop_assert!((slope - gradient).abs() < 1e-4, "{slope}, not {gradient}");
            }
        }
    }

    #[test]
    fn a_cosine_does_not_know_a_size((width, teacher, student) in pair(), by in 0.1..10.0_f32) {
        let distance = StateDistance { mse: 0.0, cosine: 1.0 };
        let scaled: Vec<f32> = student.iter().map(|s| s * by).collect();
        let losses = |student: &[f32]| {
            distance.losses(&rows(&teacher, width), &rows(student, width)).unwrap()
        };
        for (a, b) in losses(&student).into_iter().zip(losses(&scaled)) {
            prop_assert!((a - b).abs() < 1e-5, "{a}, {b}");
            prop_assert!((-1e-6..=2.0 + 1e-6).contains(&a), "{a}");
        }
    }
}

#[test]
fn a_state_of_zeros_has_no_direction() {
    let distance = StateDistance { mse: 0.0, cosine: 1.0 };
    let (zeros, ones) = (rows(&[0.0; 3], 3), rows(&[1.0; 3], 3));
    for (teacher, student) in [(&zeros, &ones), (&ones, &zeros), (&zeros, &zeros)] {
        assert_eq!(distance.losses(teacher, student).unwrap(), [1.0]);
        assert_eq!(distance.gradients(teacher, student).unwrap(), [0.0; 3]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let distance = StateDistance::default();
    let refused = |teacher: &StateRows, student: &StateRows| {
        let error = distance.losses(teacher, student).unwrap_err();
        assert_eq!(distance.gradients(teacher, student).unwrap_err(), error);
        error
    };
    let (two, three) = (rows(&[1.0; 6], 2), rows(&[1.0; 6], 3));
    assert_eq!(refused(&two, &three), DistillError::Width { teacher: 2, student: 3 });
    let error = DistillError::States { teacher: 2, student: 3 };
    assert_eq!(refused(&three, &rows(&[1.0; 9], 3)), error);
    let error = DistillError::StateShape { numbers: 7, width: 3 };
    assert_eq!(StateRows::new(vec![0.0; 7], 3).unwrap_err(), error);
    assert!(StateRows::new(vec![], 0).is_err());
    for (mse, cosine) in [(-1.0, 0.0), (f64::NAN, 0.0), (1.0, f64::INFINITY)] {
        let error = StateDistance { mse, cosine }.losses(&two, &two).unwrap_err();
        assert!(matches!(error, DistillError::Setting { .. }), "{error}");
    }
}
