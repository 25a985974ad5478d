//! Accuracy of labels, predicted or chosen by likelihood.

use super::estimate::{Estimates, Metric};
use super::score_error::{Missing, ScoreError};
use crate::data::{LabeledText, Predictions};

/// Scores predicted labels: `accuracy` in percent, `total`.
///
/// With [`Missing::AsOfficial`] a text without a prediction counts as wrong.
///
/// # Errors
/// [`ScoreError::NoQuestions`], [`ScoreError::MissingPredictions`], [`ScoreError::UnknownLabel`]
/// for a prediction that is none of `labels`.
pub fn accuracy(
    texts: &[LabeledText],
    labels: &[String],
    predictions: &Predictions,
    missing: Missing,
    estimates: &Estimates,
) -> Result<Vec<Metric>, ScoreError> {
    let answered = predictions.answered(texts.iter().map(|text| text.id.as_str()), missing)?;
    for (text, label) in texts.iter().zip(&answered) {
        if let Some(label) = label.filter(|label| !labels.iter().any(|known| known == label)) {
            return Err(ScoreError::UnknownLabel {
                origin: predictions.origin().to_owned(),
                id: text.id.clone(),
                label: label.to_owned(),
                labels: labels.len(),
            });
        }
    }
    let right =
        texts.iter().zip(&answered).map(|(text, label)| *label == Some(text.label.as_str()));
    let scores = right_answers(right, predictions)?;
    Ok(vec![estimates.percentage("accuracy", &scores), Metric::count("total", texts.len())])
}

/// Index of the label that is most likely (the first of equals), by log-likelihoods in nats.
///
/// `divisors` are the labels' lengths where the score is to be a mean per byte (lm-evaluation-
/// harness calls that `acc_norm`), ones where it is the sum.
pub fn most_likely(log_likelihoods: &[f64], divisors: &[f64]) -> usize {
    let score = |index: usize| log_likelihoods[index] / divisors[index];
    (0..log_likelihoods.len()).fold(0, |best, i| if score(i) > score(best) { i } else { best })
}

/// 1 for right and 0 for wrong; at least one.
pub(super) fn right_answers(
    right: impl Iterator<Item = bool>,
    predictions: &Predictions,
) -> Result<Vec<f64>, ScoreError> {
    let scores: Vec<f64> = right.map(|right| f64::from(u8::from(right))).collect();
    if scores.is_empty() {
        return Err(ScoreError::NoQuestions { origin: predictions.origin().to_owned() });
    }
    Ok(scores)
}
