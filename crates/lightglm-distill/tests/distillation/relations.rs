//! Relations against their definition in f64, made of whole matrices, and their derivatives against differences of that.

use lightglm_distill::{DistillError, Relations, StateRows};
use lightglm_testkit::SplitMix;
use proptest::collection::vec;
use proptest::prelude::*;

/// `[i][j]` of one head of a span: the softmax over `j <= i` of products over the square root of the width.
fn related(x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let root = (x[0].len() as f64).sqrt();
    let row = |i: usize| {
        let product = |j: usize| x[i].iter().zip(&x[j]).map(|(a, b)| a * b).sum::<f64>() / root;
        let scores: Vec<f64> = (0..=i).map(product).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|z| (z - largest).exp()).sum();
        scores.iter().map(|z| (z - largest).exp() / sum).collect()
    };
    (0..x.len()).map(row).collect()
}

/// Columns of a head, of a span's rows.
fn cut(x: &[f64], width: usize, heads: usize, a: usize) -> Vec<Vec<f64>> {
    let w = width / heads;
    x.chunks_exact(width).map(|row| row[a * w..][..w].to_vec()).collect()
}

/// The loss of each token, as the paper has it but for tokens that are not seen yet.
fn defined(
    heads: usize,
    (teacher, teacher_width): (&[f64], usize),
    (student, student_width): (&[f64], usize),
    spans: &[usize],
) -> Vec<f64> {
    let mut losses = Vec::new();
    for &length in spans {
        let first = losses.len();
        losses.resize(first + length, 0.0);
        if length == 0 {
            continue;
        }
        for a in 0..heads {
            let of = |x: &[f64], width: usize| {
                related(&cut(&x[first * width..][..length * width], width, heads, a))
            };
            let (p, q) = (of(teacher, teacher_width), of(student, student_width));
            for (i, (p, q)) in p.iter().zip(&q).enumerate() {
                let kl: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
                losses[first + i] += kl / heads as f64;
            }
        }
    }
    losses
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|it| f64::from(*it)).collect()
}

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    spans: Vec<usize>,
    teacher: StateRows,
    student: StateRows,
    weights: Vec<f32>,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1..4_usize, 1..4_usize, 1..6_usize, vec(0..7_usize, 1..4));
    shape.prop_flat_map(|(heads, of_teacher, of_student, spans)| {
        let tokens: usize = spans.iter().sum();
        let states = |width: usize| {
            vec(-2.0..2.0_f32, tokens * width)
                .prop_map(move |values| StateRows::new(values, width).unwrap())
        };
        let weight = prop_oneof![Just(0.0_f32), 0.0..2.0_f32];
        let weights = vec(weight, tokens);
        (states(heads * of_teacher), states(heads * of_student), weights).prop_map(
            move |(teacher, student, weights)| Case {
                heads,
                spans: spans.clone(),
                teacher,
                student,
                weights,
            },
        )
    })
}

proptest! {
    #[test]
    fn losses_and_gradients_are_the_definitions(case in case()) {
        let Case { heads, spans, teacher, student, weights } = case;
        let relations = Relations { heads };
        let t = f64s(teacher.values());
        let of = |s: &[f64]| {
            defined(heads, (&t, teacher.width()), (s, student.width()), &spans)
        };
        let s = f64s(student.values());
        let losses = relations.losses(&teacher, &student, &spans).unwrap();
        for (loss, expected) in losses.iter().zip(of(&s)) {
            prop_assert!((loss - expected).abs() < 1e-5, "{loss}, not {expected}");
            prop_assert!(*loss > -1e-6);
        }
        let gradient = relations.gradient(&teacher, &student, &spans, &weights).unwrap();
        for (at, gradient) in gradient.into_iter().enumerate() {
            let moved = |by: f64| -> f64 {
                let mut s = s.clone();
                s[at] += by;
                of(&s).iter().zip(&weights).map(|(loss, weight)| loss * f64::from(*weight)).sum()
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            prop_assert!((slope - f64::from(gradient)).abs() < 1e-4, "{slope}, not {gradient}");
        }
    }

    #[test]
    fn a_student_with_its_teachers_states_has_nothing_to_learn(case in case()) {
        let Case { heads, spans, teacher, weights, .. } = case;
        let relations = Relations { heads };
        let losses = relations.losses(&teacher, &teacher, &spans).unwrap();
        prop_assert!(losses.iter().all(|loss| *loss == 0.0));
        let gradient = relations.gradient(&teacher, &teacher, &spans, &weights).unwrap();
        prop_assert!(gradient.iter().all(|it| *it == 0.0));
    }

    #[test]
    fn spans_know_nothing_of_one_another(case in case()) {
        let Case { heads, spans, teacher, student, .. } = case;
        let relations = Relations { heads };
        let whole = relations.losses(&teacher, &student, &spans).unwrap();
        let mut parts = Vec::new();
        for length in spans {
            let part = |x: &StateRows| {
                let values = &x.values()[parts.len() * x.width()..][..length * x.width()];
                StateRows::new(values.to_vec(), x.width()).unwrap()
            };
            parts.extend(relations.losses(&part(&teacher), &part(&student), &[length]).unwrap());
        }
        prop_assert_eq!(whole, parts);
    }
}

/// Relations are of directions among tokens: a rotation of all states of a head changes nothing.
#[test]
fn a_turned_head_relates_the_same() {
    let mut random = SplitMix::new(5);
    let mut states =
        |width: usize| -> Vec<f32> { (0..12 * width).map(|_| random.next_f32()).collect() };
    let (teacher, student) = (states(6), states(4));
    let (sin, cos) = 0.7_f32.sin_cos();
    let turned =
        student.chunks_exact(2).flat_map(|x| [cos * x[0] - sin * x[1], sin * x[0] + cos * x[1]]);
    let turned = StateRows::new(turned.collect(), 4).unwrap();
    let rows = |values: &[f32], width| StateRows::new(values.to_vec(), width).unwrap();
    let relations = Relations { heads: 2 };
    let plain = relations.losses(&rows(&teacher, 6), &rows(&student, 4), &[12]).unwrap();
    let other = relations.losses(&rows(&teacher, 6), &turned, &[12]).unwrap();
    assert!(plain.iter().any(|loss| *loss > 1e-2));
    for (a, b) in plain.iter().zip(other) {
        assert!((a - b).abs() < 1e-5, "{a}, {b}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = |tokens: usize, width| StateRows::new(vec![0.5; tokens * width], width).unwrap();
    let refused = |heads, teacher: &StateRows, student: &StateRows, spans: &[usize]| {
        let error = Relations { heads }.losses(teacher, student, spans).unwrap_err();
        let weights = vec![1.0; student.len()];
        let other = Relations { heads }.gradient(teacher, student, spans, &weights);
        assert_eq!(other.unwrap_err(), error);
        error
    };
    let (four, six) = (rows(3, 4), rows(3, 6));
    let heads = |heads, width| DistillError::RelationHeads { heads, width };
    assert_eq!(refused(4, &six, &four, &[3]), heads(4, 6));
    assert_eq!(refused(3, &six, &four, &[3]), heads(3, 4));
    assert_eq!(refused(0, &six, &four, &[3]), heads(0, 6));
    let states = |teacher, student| DistillError::States { teacher, student };
    assert_eq!(refused(2, &rows(2, 6), &four, &[3]), states(2, 3));
    assert_eq!(refused(2, &six, &four, &[2]), states(3, 2));
    let error = Relations { heads: 2 }.gradient(&six, &four, &[3], &[1.0; 2]).unwrap_err();
    assert_eq!(error, states(3, 2));
}
