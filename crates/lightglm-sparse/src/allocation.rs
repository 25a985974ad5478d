//! `allocate`: a block's sparsity, shared out among its projections.

use crate::SparsityError;

/// Sparsity of each projection of a block, so that the block reaches `target`.
///
/// Step by step, `step` of the block's parameters more become inactive in the projection where
/// `error(sparsities)` grows least; `parameters[i]` is projection `i`'s share.
///
/// Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models",
/// algorithm 1.
///
/// # Errors
/// [`SparsityError::Sparsity`] where `target` is not in 0..=1 or `step` not in (0, 1],
/// [`SparsityError::NothingRecorded`] where there are no parameters, and what `error` returns.
pub fn allocate(
    parameters: &[usize],
    target: f32,
    step: f32,
    mut error: impl FnMut(&[f32]) -> Result<f64, SparsityError>,
) -> Result<Vec<f32>, SparsityError> {
    for (sparsity, least) in [(target, 0.0), (step, f32::MIN_POSITIVE)] {
        if !(least..=1.0).contains(&sparsity) {
            return Err(SparsityError::Sparsity(sparsity.into()));
        }
    }
    let total = parameters.iter().sum::<usize>() as f32;
    if total == 0.0 {
        return Err(SparsityError::NothingRecorded);
    }
    let shares: Vec<f32> = parameters.iter().map(|&count| count as f32 / total).collect();
    let mut sparsities = vec![0.0_f32; parameters.len()];
    let steps = (target / step).ceil() as usize;
    // A projection that fills up takes less than a step, so there can be one more for each.
    for _ in 0..steps.saturating_add(parameters.len()) {
        let reached: f32 = shares.iter().zip(&sparsities).map(|(share, s)| share * s).sum();
        let more = step.min(target - reached);
        if more <= 1e-6 {
            break;
        }
        let mut best: Option<(f64, usize, f32)> = None;
        for (i, &share) in shares.iter().enumerate() {
            if share == 0.0 || sparsities[i] >= 1.0 {
                continue;
            }
            let before = sparsities[i];
            let raised = (before + more / share).min(1.0);
            sparsities[i] = raised;
            let cost = error(&sparsities)?;
            sparsities[i] = before;
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, i, raised));
            }
        }
        let Some((_, i, raised)) = best else { break };
        sparsities[i] = raised;
    }
    Ok(sparsities)
}
