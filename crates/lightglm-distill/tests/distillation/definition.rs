//! Every divergence against its definition in f64, and its derivative against differences of that.

use burn::backend::Autodiff;
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_distill::{Distillation, Divergence, TailSample, Teacher, TeacherRows, TopRow};
use proptest::collection::vec;
use proptest::prelude::*;

fn all() -> [Divergence; 8] {
    [
        Divergence::ForwardKl,
        Divergence::ReverseKl,
        Divergence::JensenShannon { beta: 0.3 },
        Divergence::JensenShannon { beta: 0.9 },
        Divergence::SkewKl { alpha: 0.1 },
        Divergence::SkewKl { alpha: 0.0 },
        Divergence::SkewReverseKl { alpha: 0.1 },
        Divergence::TotalVariation,
    ]
}

fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = logits.iter().map(|it| ((it - largest) / temperature).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|it| it / sum).collect()
}

fn kl(p: &[f64], q: &[f64]) -> f64 {
    let terms = p.iter().zip(q).filter(|(p, _)| **p > 0.0);
    terms.map(|(p, q)| p * (p / q).ln()).sum()
}

fn mixed(share: f64, p: &[f64], q: &[f64]) -> Vec<f64> {
    p.iter().zip(q).map(|(p, q)| share * p + (1.0 - share) * q).collect()
}

/// As the books have it.
fn defined(divergence: Divergence, p: &[f64], q: &[f64]) -> f64 {
    match divergence {
        Divergence::ForwardKl => kl(p, q),
        Divergence::ReverseKl => kl(q, p),
        Divergence::JensenShannon { beta } => {
            let m = mixed(beta, p, q);
            beta * kl(p, &m) + (1.0 - beta) * kl(q, &m)
        }
        Divergence::SkewKl { alpha } => kl(p, &mixed(alpha, p, q)),
        Divergence::SkewReverseKl { alpha } => kl(q, &mixed(1.0 - alpha, p, q)),
        Divergence::TotalVariation => p.iter().zip(q).map(|(p, q)| 0.5 * (p - q).abs()).sum(),
        other => panic!("{other:?} has no definition here"),
    }
}

/// What is left of a distribution if all but `ids` is one outcome.
fn coarse(p: &[f64], ids: &[u32]) -> Vec<f64> {
    let mut top: Vec<f64> = ids.iter().map(|id| p[*id as usize]).collect();
    if ids.len() < p.len() {
        let others = (0..p.len()).filter(|v| !ids.contains(&(*v as u32)));
        top.push(others.map(|v| p[v]).sum());
    }
    top
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|it| f64::from(*it)).collect()
}

struct Given(TeacherRows);

impl Teacher for Given {
    fn rows(&self, _: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        Ok(self.0.clone())
    }
}

/// The objective's value for one row, and its gradient.
fn run(
    divergence: Divergence,
    teacher: &TeacherRows,
    student: &[f32],
    temperature: f64,
) -> (f64, Vec<f32>) {
    let objective =
        Distillation::new(Given(teacher.clone()), divergence).with_temperature(temperature);
    let data = TensorData::new(student.to_vec(), [1, student.len()]);
    let logits: Tensor<Autodiff<Flex>, 2> = Tensor::from_data(data, &FlexDevice);
    let logits = logits.require_grad();
    let span = LabelledSpan::text(&[0], &[Some(0)]);
    let loss = objective.loss(logits.clone(), &[span]).unwrap();
    let gradients = loss.backward();
    let gradient = logits.grad(&gradients).unwrap().into_data().to_vec().unwrap();
    (f64::from(loss.into_data().to_vec::<f32>().unwrap()[0]), gradient)
}

/// Our value and gradient against `of`, the definition as a function of the student's distribution.
fn check(
    divergence: Divergence,
    rows: &TeacherRows,
    student: &[f32],
    temperature: f64,
    of: &dyn Fn(&[f64]) -> f64,
) {
    let student = f64s(student);
    let value = |logits: &[f64]| temperature * temperature * of(&softmax(logits, temperature));
    let given: Vec<f32> = student.iter().map(|it| *it as f32).collect();
    let (ours, gradient) = run(divergence, rows, &given, temperature);
    let expected = value(&student);
    assert!(
        (ours - expected).abs() <= 2e-5 * expected.abs().max(1.0),
        "{divergence:?}: {ours}, not {expected}"
    );
    for v in 0..student.len() {
        const STEP: f64 = 1e-5;
        let moved = |by: f64| {
            let mut logits = student.clone();
            logits[v] += by;
            value(&logits)
        };
        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let ours = f64::from(gradient[v]);
        assert!(
            (ours - slope).abs() <= 5e-5 * slope.abs().max(temperature.max(1.0)),
            "{divergence:?}, token {v}: {ours}, not {slope}"
        );
    }
}

fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    (1_usize..40).prop_flat_map(|v| (vec(-6.0_f32..6.0, v), vec(-6.0_f32..6.0, v)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn values_and_slopes_are_those_of_the_definition(
        (teacher, student) in pair(),
        temperature in prop_oneof![Just(1.0), 0.5_f64..4.0],
    ) {
        let p = softmax(&f64s(&teacher), temperature);
        let rows = TeacherRows::logits(teacher.clone(), teacher.len()).unwrap();
        for divergence in all() {
            check(divergence, &rows, &student, temperature, &|q| defined(divergence, &p, q));
        }
    }

    /// The likeliest tokens and the rest are a distribution over fewer outcomes.
    #[test]
    fn the_likeliest_tokens_have_their_own_definition(
        (teacher, student) in pair(),
        k in 0_usize..45,
        temperature in prop_oneof![Just(1.0), 0.5_f64..4.0],
    ) {
        let p = softmax(&f64s(&teacher), temperature);
        let top = TopRow::of_logits(&teacher, k, temperature).unwrap();
        prop_assert_eq!(top.ids().len(), k.min(teacher.len()));
        let least = top.ids().iter().map(|id| teacher[*id as usize]).fold(f32::INFINITY, f32::min);
        for (v, logit) in teacher.iter().enumerate() {
            prop_assert!(top.ids().contains(&(v as u32)) || *logit <= least);
        }
        let ids = top.ids().to_vec();
        let rows = TeacherRows::top(vec![top], teacher.len(), temperature).unwrap();
        let p = coarse(&p, &ids);
        for divergence in all() {
            check(divergence, &rows, &student, temperature, &|q| {
                defined(divergence, &p, &coarse(q, &ids))
            });
        }
    }

    /// Tokens drawn from the others stand for them in the forward divergence, and nowhere else.
    #[test]
    fn a_sampled_tail_has_its_own_definition(
        (teacher, student) in pair(),
        k in 0_usize..45,
        drawn in vec(0_usize..1000, 1..20),
        temperature in prop_oneof![Just(1.0), 0.5_f64..4.0],
    ) {
        let top = TopRow::of_logits(&teacher, k, temperature).unwrap();
        let ids = top.ids().to_vec();
        let others: Vec<u32> = (0..teacher.len() as u32).filter(|v| !ids.contains(v)).collect();
        prop_assume!(!others.is_empty());
        let mut drawn: Vec<u32> = drawn.iter().map(|at| others[at % others.len()]).collect();
        drawn.sort_unstable();
        let p = softmax(&f64s(&teacher), temperature);
        let tail = others.iter().map(|v| p[*v as usize]).sum::<f64>();
        let shares: Vec<f64> = drawn.iter().map(|v| p[*v as usize] / tail).collect();
        // Any weights: what is stored is what counts.
        let weights: Vec<f32> = drawn.iter().map(|v| 0.5 + (v % 3) as f32).collect();
        let logs = shares.iter().map(|share| share.ln() as f32).collect();
        let sample = TailSample::new(drawn.clone(), logs, weights.clone()).unwrap();
        let top = top.with_sample(sample).unwrap();
        let rows = TeacherRows::top(vec![top], teacher.len(), temperature).unwrap();
        let stored = coarse(&p, &ids);
        for divergence in all() {
            let of_samples = matches!(
                divergence,
                Divergence::ForwardKl | Divergence::SkewKl { alpha: 0.0 }
            );
            check(divergence, &rows, &student, temperature, &|q| {
                let whole = defined(divergence, &stored, &coarse(q, &ids));
                let rest: f64 = others.iter().map(|v| q[*v as usize]).sum();
                let within = drawn.iter().zip(&shares).zip(&weights).map(|((v, p), weight)| {
                    let q = q[*v as usize] / rest;
                    f64::from(*weight) * (p * (p / q).ln() + q - p)
                });
                if of_samples { whole + tail * within.sum::<f64>() } else { whole }
            });
        }
    }

    /// Of itself nothing is apart, and nobody gains by moving.
    #[test]
    fn at_its_own_teacher_a_student_stays((teacher, _) in pair()) {
        let rows = TeacherRows::logits(teacher.clone(), teacher.len()).unwrap();
        for divergence in all() {
            let (loss, gradient) = run(divergence, &rows, &teacher, 1.0);
            prop_assert!(loss.abs() < 1e-5, "{:?}: {}", divergence, loss);
            prop_assert!(gradient.iter().all(|it| it.abs() < 1e-5), "{:?}: {:?}", divergence, gradient);
        }
    }
}

/// Far apart, banned, certain: bounded divergences stay finite, and nothing is NaN where the definition is not.
#[test]
fn extreme_logits_are_numbers() {
    let none = f32::NEG_INFINITY;
    let cases: [(Vec<f32>, Vec<f32>); 5] = [
        (vec![1e4, 0.0, -1e4], vec![-1e4, 0.0, 1e4]),
        (vec![none, 0.0, 1.0], vec![3.0, 0.0, 1.0]),
        (vec![none, none, 1.0], vec![0.0, 0.0, 0.0]),
        (vec![0.0; 3], vec![88.0, -88.0, 0.0]),
        (vec![5.0; 3], vec![5.0; 3]),
    ];
    for (teacher, student) in cases {
        let rows = TeacherRows::logits(teacher.clone(), 3).unwrap();
        for divergence in all() {
            let (loss, gradient) = run(divergence, &rows, &student, 1.0);
            // What the teacher bans and the student says is infinitely far for the reverse divergence.
            let infinite = matches!(divergence, Divergence::ReverseKl) && teacher.contains(&none);
            assert_eq!(
                loss.is_finite(),
                !infinite,
                "{divergence:?} {teacher:?} {student:?}: {loss}"
            );
            let finite = gradient.iter().all(|it| it.is_finite());
            assert!(finite || infinite, "{divergence:?} {teacher:?} {student:?}: {gradient:?}");
        }
    }
}
