//! The greedy allocation against brute force.

use lightglm_sparse::allocate;

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
