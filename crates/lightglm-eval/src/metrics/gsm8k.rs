//! GSM8K: the number after `####`, compared as text.
//!
//! Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021), and the behaviour
//! of its official answer extraction (grade_school_math/dataset.py).

use super::accuracy::right_answers;
use super::estimate::{Estimates, Metric};
use super::score_error::{Missing, ScoreError};
use crate::data::{Predictions, Problem};

/// What the first `#### ` that is followed by an optional minus sign and digits, points or commas
/// is followed by, without the commas.
pub fn final_answer(text: &str) -> Option<String> {
    let marks = text.match_indices("#### ").map(|(at, mark)| &text[at + mark.len()..]);
    marks.into_iter().find_map(|rest| {
        let (sign, digits) = match rest.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", rest),
        };
        let end =
            digits.find(|c: char| !matches!(c, '0'..='9' | '.' | ',')).unwrap_or(digits.len());
        (end > 0).then(|| format!("{sign}{}", digits[..end].replace(',', "")))
    })
}

/// Scores `predictions`, which are whole solutions: `exact_match` in percent, `no_answer` (solutions
/// that no answer was found in, which are wrong), `total`.
///
/// With [`Missing::AsOfficial`] a problem without a prediction counts as wrong.
///
/// # Errors
/// [`ScoreError::NoQuestions`], [`ScoreError::MissingPredictions`].
pub fn gsm8k(
    problems: &[Problem],
    predictions: &Predictions,
    missing: Missing,
    estimates: &Estimates,
) -> Result<Vec<Metric>, ScoreError> {
    let answered = predictions.answered(problems.iter().map(|p| p.id.as_str()), missing)?;
    let found: Vec<Option<String>> =
        answered.iter().map(|solution| solution.and_then(final_answer)).collect();
    let right = problems
        .iter()
        .zip(&found)
        .map(|(problem, found)| found.as_deref() == Some(problem.answer.as_str()));
    let scores = right_answers(right, predictions)?;
    Ok(vec![
        estimates.percentage("exact_match", &scores),
        Metric::count("no_answer", found.iter().filter(|answer| answer.is_none()).count()),
        Metric::count("total", problems.len()),
    ])
}
