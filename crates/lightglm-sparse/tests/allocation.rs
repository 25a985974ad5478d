//! The greedy allocation against brute force.

use lightglm_sparse::{ErrorCurve, SparsityError, allocate};

#[test]
fn greedy_is_as_good_as_brute_force_on_a_convex_error() {
    // Projections of 1 and 3 parts; steps of a hundredth of the block.
    let error = |s: &[f32]| f64::from(3.0 * s[0] * s[0] + s[1] * s[1]);
    let found = allocate(&[100, 300], 0.5, 0.01, |s| Ok(error(s))).expect("a valid target");
    let reached = 0.25 * found[0] + 0.75 * found[1];
    assert!((reached - 0.5).abs() < 1e-3, "{found:?}");
    let candidates = (0..=1000).map(|i| i as f32 / 1000.0).map(|a| [a, (2.0 - a) / 3.0]);
    let best = candidates.map(|s| error(&s)).fold(f64::INFINITY, f64::min);
    assert!(error(&found) < best * 1.01 + 1e-3, "{found:?} {best}");
}

#[test]
fn impossible_targets_are_refused() {
    for (target, step) in [(1.5, 0.1), (f32::NAN, 0.1), (0.5, 0.0)] {
        assert!(allocate(&[1], target, step, |_| Ok(0.0)).is_err());
    }
}

#[test]
fn curves_go_through_their_points() {
    let curve = ErrorCurve::new([(0.25, 1.0), (0.5, 3.0), (1.0, 10.0)]).expect("valid");
    for (sparsity, error) in
        [(-1.0, 0.0), (0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.375, 2.0), (0.75, 6.5), (2.0, 10.0)]
    {
        assert_eq!(curve.at(sparsity), error, "at {sparsity}");
    }
}

#[test]
fn impossible_curves_are_refused() {
    let bad: [&[(f32, f64)]; 5] = [
        &[],
        &[(0.5, 1.0)],
        &[(0.5, 1.0), (0.5, 2.0), (1.0, 3.0)],
        &[(0.0, 0.0), (1.0, 1.0)],
        &[(2.0, 1.0)],
    ];
    for points in bad {
        let refused = ErrorCurve::new(points.iter().copied());
        assert!(matches!(refused, Err(SparsityError::Sparsity(_))), "{refused:?}");
    }
    for error in [f64::NAN, f64::INFINITY, -1.0] {
        let refused = ErrorCurve::new([(1.0, error)]);
        assert!(matches!(refused, Err(SparsityError::BlockError { .. })), "{refused:?}");
    }
}

#[test]
fn measured_curves_are_met_within_the_budget_and_beat_an_even_share() {
    let curve = |scale: f64| {
        let levels = (1..=10).map(|i| i as f32 / 10.0);
        ErrorCurve::new(levels.map(|s| (s, scale * f64::from(s).powi(3)))).expect("valid")
    };
    let curves = [curve(1.0), curve(20.0), curve(5.0)];
    let parameters = [100, 250, 50];
    let error = |sparsities: &[f32]| -> f64 {
        curves.iter().zip(sparsities).map(|(curve, &sparsity)| curve.at(sparsity)).sum()
    };
    for target in [0.0, 0.25, 0.4, 0.5, 1.0] {
        let found = allocate(&parameters, target, 1e-3, |s| Ok(error(s))).expect("valid");
        let reached: f32 =
            parameters.iter().zip(&found).map(|(&p, s)| p as f32 * s).sum::<f32>() / 400.0;
        assert!((reached - target).abs() < 1e-3, "{found:?}");
        let even = error(&[target; 3]);
        assert!(error(&found) <= even * 1.000_001, "{found:?}");
        assert!(target == 0.0 || target == 1.0 || error(&found) < 0.9 * even, "{found:?}");
    }
}
