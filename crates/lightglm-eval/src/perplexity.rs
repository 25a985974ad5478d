//! `perplexity`: how surprised a model is by a text. Shapes: `R` rows in a step, `V` vocab_size.

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use lightglm_generation::RunControl;
use lightglm_generation::log_softmax::{log_sum_exp, nll};

use crate::error::{EvalError, ModelRole};
use crate::protocol::{Protocol, Window};
use crate::statistics::{Z_95, mean_and_standard_error};
use crate::window_scan::{Rows, Subject, WindowScan, checkpoint};

/// What [`perplexity`](perplexity()) measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// How the text was cut.
    pub protocol: Protocol,
    /// Tokens scored.
    pub tokens: usize,
    /// `exp(nll_mean)`.
    pub perplexity: f64,
    /// Mean negative log-likelihood of a token, in nats.
    pub nll_mean: f64,
    /// Standard error of `nll_mean`, in nats, with tokens taken as independent (as llama.cpp
    /// does); they are not quite, so the true error is somewhat greater.
    pub nll_standard_error: f64,
    /// `exp(nll_mean -+ 1.96 nll_standard_error)`: a 95 % interval of the perplexity.
    pub confidence_interval: [f64; 2],
    /// The sum per window, in the text's order, to compare runs where they part.
    pub windows: Vec<WindowNll>,
}

/// What one window adds to a [`Perplexity`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowNll {
    /// The window.
    pub window: Window,
    /// Summed negative log-likelihood of its targets, in nats.
    pub nll: f64,
}

/// Perplexity of `subject` over the text `tokens`.
///
/// ```text
/// perplexity = exp(mean over scored tokens t of -ln p(t | the tokens before it in its window))
/// ```
/// with log-softmax and sums in f64. Sums run in the text's order, so the result does not depend
/// on the number of threads here.
///
/// # Errors
/// [`EvalError`]: an impossible protocol, a text with nothing to predict or with foreign tokens, a
/// model that refuses or returns what is not finite, an interruption.
///
/// Source: Jelinek et al., "Perplexity - a measure of the difficulty of speech recognition tasks",
/// 1977; for the windows see [`Protocol`].
pub fn perplexity<B: Backend>(
    subject: &mut Subject<'_, B>,
    tokens: &[u32],
    protocol: &Protocol,
    control: &mut RunControl<'_>,
) -> Result<Perplexity, EvalError> {
    let windows = protocol.windows(tokens.len())?;
    subject.check_tokens(tokens, protocol)?;
    let total = windows.iter().map(Window::targets).sum();
    let mut nlls = Vec::with_capacity(total);
    checkpoint(control, 0, total)?;
    for &window in &windows {
        let role = ModelRole::Subject;
        let mut scan = WindowScan::start(subject, role, tokens, window, protocol.bos)?;
        while let Some(rows) = scan.next_rows(control.rows_per_step)? {
            nlls.extend(score_rows(&rows, tokens)?);
            checkpoint(control, nlls.len(), total)?;
        }
    }
    Ok(Perplexity::from_nlls(*protocol, &windows, &nlls))
}

/// The negative log-likelihood of each row's target.
fn score_rows(rows: &Rows, tokens: &[u32]) -> Result<Vec<f64>, EvalError> {
    let vocab_size = rows.logits.len() / rows.count;
    let targets = &tokens[rows.first_target..rows.first_target + rows.count];
    rows.logits
        .par_chunks_exact(vocab_size)
        .zip(targets)
        .enumerate()
        .map(|(row, (logits, &target))| {
            let value = nll(logits, log_sum_exp(logits), target as usize);
            let index = rows.first_target + row;
            finite(ModelRole::Subject, index, value)
        })
        .collect()
}

/// `value`, unless it is a NaN or infinite.
pub(crate) fn finite(role: ModelRole, index: usize, value: f64) -> Result<f64, EvalError> {
    if value.is_finite() { Ok(value) } else { Err(EvalError::NotFinite { role, index, value }) }
}

impl Perplexity {
    /// Sums up the `nlls` of all targets of `windows`, which are not empty, in order.
    pub(crate) fn from_nlls(protocol: Protocol, windows: &[Window], nlls: &[f64]) -> Self {
        let (nll_mean, nll_standard_error) = mean_and_standard_error(nlls);
        let margin = Z_95 * nll_standard_error;
        let mut rest = nlls;
        let window_nll = |&window: &Window| {
            let (own, later) = rest.split_at(window.targets());
            rest = later;
            WindowNll { window, nll: own.iter().sum() }
        };
        Self {
            protocol,
            tokens: nlls.len(),
            perplexity: nll_mean.exp(),
            nll_mean,
            nll_standard_error,
            confidence_interval: [(nll_mean - margin).exp(), (nll_mean + margin).exp()],
            windows: windows.iter().map(window_nll).collect(),
        }
    }
}
