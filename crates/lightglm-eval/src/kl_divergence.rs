//! `kl_divergence`: how far a candidate model's predictions are from a reference model's.
//!
//! Shapes: `R` rows in a step, `V` vocab_size.

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use lightglm_generation::RunControl;
use lightglm_generation::log_softmax::{argmax, log_sum_exp, nll};

use crate::error::{EvalError, ModelRole};
use crate::perplexity::{Perplexity, finite};
use crate::protocol::{Protocol, Window};
use crate::row_divergence::kl_divergence as row_kl_divergence;
use crate::statistics::{mean_and_standard_error, quantile};
use crate::window_scan::{Rows, Subject, WindowScan, checkpoint};

/// What [`kl_divergence`](kl_divergence()) measured, and how. Divergences are in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KlDivergence {
    /// How the text was cut.
    pub protocol: Protocol,
    /// Tokens scored.
    pub tokens: usize,
    /// Mean divergence of a prediction.
    pub mean: f64,
    /// Standard error of `mean`, with tokens taken as independent.
    pub standard_error: f64,
    /// Half of the predictions diverge by less.
    pub median: f64,
    /// 99 % of the predictions diverge by less.
    pub percentile_99: f64,
    /// The worst prediction.
    pub max: f64,
    /// Share of predictions, in `[0, 1]`, where both models rank the same token first (the lower
    /// id among equals).
    pub top1_agreement: f64,
    /// The reference's perplexity on the same tokens.
    pub reference: Perplexity,
    /// The candidate's.
    pub candidate: Perplexity,
}

/// Kullback-Leibler divergence of the candidate's next-token distributions from the reference's,
/// over the text `tokens`.
///
/// ```text
/// mean over scored tokens t of sum over v of P(v | before t) * (ln P(v | ..) - ln Q(v | ..))
/// ```
/// with `P` the reference, `Q` the candidate, log-softmax and sums in f64. The two run side by side,
/// so no more than `2 * rows_per_step` rows of logits are ever held, and may stand on different
/// backends.
///
/// # Errors
/// As [`perplexity`](crate::perplexity()), and [`EvalError::VocabMismatch`].
///
/// Source: the statistics are those of llama.cpp's `llama-perplexity --kl-divergence`
/// (ggml-org/llama.cpp, tools/perplexity/README.md), so that numbers can be laid side by side.
pub fn kl_divergence<R: Backend, C: Backend>(
    reference: &mut Subject<'_, R>,
    candidate: &mut Subject<'_, C>,
    tokens: &[u32],
    protocol: &Protocol,
    control: &mut RunControl<'_>,
) -> Result<KlDivergence, EvalError> {
    let windows = protocol.windows(tokens.len())?;
    let vocab_sizes = [reference.vocab_size(), candidate.vocab_size()];
    if vocab_sizes[0] != vocab_sizes[1] {
        let [reference, candidate] = vocab_sizes;
        return Err(EvalError::VocabMismatch { reference, candidate });
    }
    reference.check_tokens(tokens, protocol)?;
    let total = windows.iter().map(Window::targets).sum();
    let mut comparisons = Vec::with_capacity(total);
    checkpoint(control, 0, total)?;
    for &window in &windows {
        let (role, bos) = (ModelRole::Reference, protocol.bos);
        let mut p_scan = WindowScan::start(reference, role, tokens, window, bos)?;
        let role = ModelRole::Candidate;
        let mut q_scan = WindowScan::start(candidate, role, tokens, window, bos)?;
        // Both scans walk the same window in the same steps, so they end together.
        while let (Some(p), Some(q)) =
            (p_scan.next_rows(control.rows_per_step)?, q_scan.next_rows(control.rows_per_step)?)
        {
            comparisons.extend(compare_rows(&p, &q, tokens)?);
            checkpoint(control, comparisons.len(), total)?;
        }
    }
    Ok(summarize(*protocol, &windows, &comparisons))
}

/// Two predictions of one token.
struct Comparison {
    reference_nll: f64,
    candidate_nll: f64,
    divergence: f64,
    same_top1: bool,
}

/// Compares the rows of one step.
fn compare_rows(p: &Rows, q: &Rows, tokens: &[u32]) -> Result<Vec<Comparison>, EvalError> {
    let vocab_size = p.logits.len() / p.count;
    let targets = &tokens[p.first_target..p.first_target + p.count];
    let (p_rows, q_rows) =
        (p.logits.par_chunks_exact(vocab_size), q.logits.par_chunks_exact(vocab_size));
    p_rows
        .zip(q_rows)
        .zip(targets)
        .enumerate()
        .map(|(row, ((p_row, q_row), &target))| {
            let (index, target) = (p.first_target + row, target as usize);
            let (p_lse, q_lse) = (log_sum_exp(p_row), log_sum_exp(q_row));
            let reference_nll = nll(p_row, p_lse, target);
            let candidate_nll = nll(q_row, q_lse, target);
            let divergence = row_kl_divergence(p_row, p_lse, q_row, q_lse);
            Ok(Comparison {
                reference_nll: finite(ModelRole::Reference, index, reference_nll)?,
                candidate_nll: finite(ModelRole::Candidate, index, candidate_nll)?,
                divergence: finite(ModelRole::Candidate, index, divergence)?,
                same_top1: argmax(p_row) == argmax(q_row),
            })
        })
        .collect()
}

/// Statistics over all predictions, of which there is at least one.
fn summarize(protocol: Protocol, windows: &[Window], comparisons: &[Comparison]) -> KlDivergence {
    let column = |value: fn(&Comparison) -> f64| comparisons.iter().map(value).collect::<Vec<_>>();
    let mut divergences = column(|c| c.divergence);
    let (mean, standard_error) = mean_and_standard_error(&divergences);
    divergences.sort_unstable_by(f64::total_cmp);
    let agreed = comparisons.iter().filter(|c| c.same_top1).count();
    let nlls = |value| Perplexity::from_nlls(protocol, windows, &column(value));
    KlDivergence {
        protocol,
        tokens: comparisons.len(),
        mean,
        standard_error,
        median: quantile(&divergences, 0.5),
        percentile_99: quantile(&divergences, 0.99),
        max: quantile(&divergences, 1.0),
        top1_agreement: agreed as f64 / comparisons.len() as f64,
        reference: nlls(|c| c.reference_nll),
        candidate: nlls(|c| c.candidate_nll),
    }
}
