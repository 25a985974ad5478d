//! CMRC 2018: exact match, and F1 over the longest common run of characters and words.
//!
//! Source: Cui et al., "A Span-Extraction Dataset for Chinese Machine Reading Comprehension"
//! (EMNLP 2019), and the behaviour of its official scorer (cmrc2018_evaluate.py, v5).

use super::estimate::{Estimates, Metric};
use super::score_error::{Missing, ScoreError};
use super::word_tokenize::word_tokenize;
use crate::data::{Predictions, Question};
use crate::python_text::{lower, strip};

/// Punctuation that scoring removes.
///
/// The official list also has the two-character text "……", which no single character equals: the
/// ellipsis stays.
const PUNCTUATION: &str = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』";

/// Lower-cases, strips, and removes the listed punctuation.
fn bare(text: &str) -> String {
    strip(&lower(text)).chars().filter(|&c| !PUNCTUATION.contains(c)).collect()
}

/// Splits `text` into tokens: each character of U+4E00 to U+9FA5 is one, what stands between them
/// is split into words ([`word_tokenize`]); the listed punctuation is removed first.
pub fn segment(text: &str) -> Vec<String> {
    let text = bare(text);
    let mut tokens = Vec::new();
    let mut run = String::new();
    for c in text.chars() {
        if ('\u{4e00}'..='\u{9fa5}').contains(&c) {
            tokens.extend(word_tokenize(&std::mem::take(&mut run)));
            tokens.push(c.to_string());
        } else {
            run.push(c);
        }
    }
    tokens.extend(word_tokenize(&run));
    tokens
}

/// 1 where the texts are equal once lower-cased, stripped and freed of the listed punctuation,
/// else 0.
pub fn exact_match(gold: &str, prediction: &str) -> f64 {
    f64::from(u8::from(bare(gold) == bare(prediction)))
}

/// F1 of the longest run of tokens that `gold` and `prediction` have in common.
///
/// ```text
/// P = run / |prediction|, R = run / |gold|, F1 = 2 P R / (P + R), 0 where run = 0
/// ```
pub fn f1(gold: &str, prediction: &str) -> f64 {
    let (gold, prediction) = (segment(gold), segment(prediction));
    let run = longest_common_run(&gold, &prediction);
    if run == 0 {
        return 0.0;
    }
    let precision = run as f64 / prediction.len() as f64;
    let recall = run as f64 / gold.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// Length of the longest contiguous run of tokens in both.
fn longest_common_run(a: &[String], b: &[String]) -> usize {
    let mut best = 0;
    // runs[j]: length of the common run that ends at the current token of `a` and token j - 1 of `b`.
    let mut runs = vec![0_usize; b.len() + 1];
    for x in a {
        for j in (0..b.len()).rev() {
            runs[j + 1] = if *x == b[j] { runs[j] + 1 } else { 0 };
            best = best.max(runs[j + 1]);
        }
    }
    best
}

/// Scores `predictions`: `average` of F1 and EM, `f1`, `em` in percent, `total`, `skip`.
///
/// With [`Missing::AsOfficial`] a question without a prediction counts as wrong, and in `skip`.
///
/// # Errors
/// [`ScoreError::NoQuestions`], [`ScoreError::MissingPredictions`].
pub fn cmrc2018(
    questions: &[Question],
    predictions: &Predictions,
    missing: Missing,
    estimates: &Estimates,
) -> Result<Vec<Metric>, ScoreError> {
    let answered = predictions.answered(questions.iter().map(|q| q.id.as_str()), missing)?;
    if questions.is_empty() {
        return Err(ScoreError::NoQuestions { origin: predictions.origin().to_owned() });
    }
    let best = |score: fn(&str, &str) -> f64| -> Vec<f64> {
        let of_question = |(question, prediction): (&Question, &Option<&str>)| {
            let Some(prediction) = prediction else { return 0.0 };
            question.answers.iter().map(|gold| score(gold, prediction)).fold(0.0, f64::max)
        };
        questions.iter().zip(&answered).map(of_question).collect()
    };
    let (em, f1) = (best(exact_match), best(f1));
    let average: Vec<f64> = em.iter().zip(&f1).map(|(em, f1)| (em + f1) / 2.0).collect();
    Ok(vec![
        estimates.percentage("average", &average),
        estimates.percentage("f1", &f1),
        estimates.percentage("em", &em),
        Metric::count("total", questions.len()),
        Metric::count("skip", answered.iter().filter(|answer| answer.is_none()).count()),
    ])
}
