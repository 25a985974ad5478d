//! `NoAnswer`: how sure a system is that a question has no answer.

use std::collections::HashMap;

use super::score_error::ScoreError;

/// For each question the probability (or any score) that it has no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct NoAnswer {
    origin: String,
    /// In the order of the file, which decides among equals.
    probabilities: Vec<(String, f64)>,
    by_id: HashMap<String, f64>,
    threshold: f64,
}

impl NoAnswer {
    /// The official scorer's `--na-prob-thresh`: no probability is above it.
    pub const DEFAULT_THRESHOLD: f64 = 1.0;

    /// `probabilities` are `(question id, probability)` and come from `origin`; of equal ids the
    /// last counts. A question above `threshold` counts as predicted to have no answer.
    pub fn new(
        origin: impl Into<String>,
        probabilities: Vec<(String, f64)>,
        threshold: f64,
    ) -> Self {
        let by_id: HashMap<String, f64> = probabilities.iter().cloned().collect();
        Self { origin: origin.into(), probabilities, by_id, threshold }
    }

    /// Whether question `id` counts as predicted to have no answer.
    ///
    /// # Errors
    /// [`ScoreError::MissingNaProb`].
    pub fn is_above(&self, id: &str) -> Result<bool, ScoreError> {
        match self.by_id.get(id) {
            Some(probability) => Ok(*probability > self.threshold),
            None => {
                Err(ScoreError::MissingNaProb { origin: self.origin.clone(), id: id.to_owned() })
            }
        }
    }
}

/// The greatest sum of scores that a threshold reaches, and the threshold.
///
/// Starts where every question counts as unanswerable, which scores `unanswerable`, and lets the
/// questions in by ascending probability; `gains` is what each then adds: its score where it is
/// answerable, -1 where it is not and something was predicted, 0 otherwise. Questions that are not
/// in `gains` are passed over.
pub(super) fn best_threshold(
    no_answer: &NoAnswer,
    gains: &HashMap<&str, f64>,
    unanswerable: usize,
) -> (f64, f64) {
    let mut ascending: Vec<&(String, f64)> = no_answer.probabilities.iter().collect();
    ascending.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut sum = unanswerable as f64;
    let mut best = (sum, 0.0);
    for (id, probability) in ascending {
        let Some(gain) = gains.get(id.as_str()) else { continue };
        sum += gain;
        if sum > best.0 {
            best = (sum, *probability);
        }
    }
    best
}
