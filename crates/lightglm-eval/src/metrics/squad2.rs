//! SQuAD 2.0: exact match and F1 over bags of words, for answerable and unanswerable questions.
//!
//! Source: Rajpurkar, Jia and Liang, "Know What You Don't Know" (ACL 2018), and the behaviour of
//! its official scorer (evaluate-v2.0.py).

use std::collections::HashMap;

use super::estimate::{Estimates, Metric};
use super::no_answer::{NoAnswer, best_threshold};
use super::score_error::{Missing, ScoreError};
use crate::data::{Predictions, Question};
use crate::python_text::{is_ascii_punctuation, is_space, is_word, lower};

/// Lower-cases `text`, drops ASCII punctuation, replaces the words a, an and the by a space, and
/// collapses white space, in this order.
pub fn normalize(text: &str) -> String {
    let kept: String = lower(text).chars().filter(|&c| !is_ascii_punctuation(c)).collect();
    let words = kept.split(|c: char| !is_word(c));
    let mut spaced = String::with_capacity(kept.len());
    let mut rest = kept.as_str();
    for word in words {
        let start = word.as_ptr() as usize - rest.as_ptr() as usize;
        spaced.push_str(&rest[..start]);
        spaced.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        rest = &rest[start + word.len()..];
    }
    spaced.push_str(rest);
    let words: Vec<&str> = spaced.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// 1 where `gold` and `prediction` are equal once [`normalize`]d, else 0.
pub fn exact(gold: &str, prediction: &str) -> f64 {
    f64::from(u8::from(normalize(gold) == normalize(prediction)))
}

/// F1 of the words of `gold` and `prediction`, taken as bags; where either has no words, 1 if
/// neither has.
///
/// ```text
/// P = overlap / |prediction|, R = overlap / |gold|, F1 = 2 P R / (P + R)
/// ```
pub fn f1(gold: &str, prediction: &str) -> f64 {
    let (gold, prediction) = (normalize(gold), normalize(prediction));
    let [gold, prediction] = [&gold, &prediction]
        .map(|text| text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>());
    if gold.is_empty() || prediction.is_empty() {
        return f64::from(u8::from(gold.is_empty() && prediction.is_empty()));
    }
    let mut left = HashMap::<&str, usize>::new();
    for word in &gold {
        *left.entry(word).or_default() += 1;
    }
    let mut overlap = 0;
    for word in &prediction {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            overlap += 1;
        }
    }
    if overlap == 0 {
        return 0.0;
    }
    let precision = f64::from(overlap) / prediction.len() as f64;
    let recall = f64::from(overlap) / gold.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// The best of both scores over the gold answers whose normalised text is not empty, or over the
/// single gold answer `""` where there is none.
fn best_scores(question: &Question, prediction: &str) -> [f64; 2] {
    let mut golds: Vec<&str> = question
        .answers
        .iter()
        .map(String::as_str)
        .filter(|answer| !normalize(answer).is_empty())
        .collect();
    if golds.is_empty() {
        golds.push("");
    }
    let best = |score: fn(&str, &str) -> f64| {
        golds.iter().map(|gold| score(gold, prediction)).fold(0.0, f64::max)
    };
    [best(exact), best(f1)]
}

/// Scores `predictions`; percentages, named as the official scorer names them.
///
/// `exact`, `f1`, `total`, the same for answerable (`HasAns_`) and unanswerable (`NoAns_`)
/// questions where there are any, and with `no_answer` also `best_exact` and `best_f1` with their
/// thresholds. With [`Missing::AsOfficial`] a question without a prediction is left out.
///
/// # Errors
/// [`ScoreError::NoQuestions`], [`ScoreError::MissingPredictions`], [`ScoreError::MissingNaProb`].
pub fn squad2(
    questions: &[Question],
    predictions: &Predictions,
    no_answer: Option<&NoAnswer>,
    missing: Missing,
    estimates: &Estimates,
) -> Result<Vec<Metric>, ScoreError> {
    let answered = predictions.answered(questions.iter().map(|q| q.id.as_str()), missing)?;
    let asked: Vec<(&Question, &str)> = questions
        .iter()
        .zip(answered)
        .filter_map(|(question, prediction)| Some((question, prediction?)))
        .collect();
    if asked.is_empty() {
        return Err(ScoreError::NoQuestions { origin: predictions.origin().to_owned() });
    }
    let raw: Vec<[f64; 2]> =
        asked.iter().map(|(q, prediction)| best_scores(q, prediction)).collect();
    let mut scores = raw.clone();
    if let Some(no_answer) = no_answer {
        for ((question, _), score) in asked.iter().zip(&mut scores) {
            if no_answer.is_above(&question.id)? {
                *score = [f64::from(u8::from(!question.is_answerable())); 2];
            }
        }
    }
    let mut metrics = Vec::new();
    let mut add = |prefix: &str, wanted: &dyn Fn(&Question) -> bool| {
        let kept = asked.iter().zip(&scores).filter(|((question, _), _)| wanted(question));
        let (exact, f1): (Vec<f64>, Vec<f64>) = kept.map(|(_, score)| (score[0], score[1])).unzip();
        if !exact.is_empty() {
            metrics.push(estimates.percentage(format!("{prefix}exact"), &exact));
            metrics.push(estimates.percentage(format!("{prefix}f1"), &f1));
            metrics.push(Metric::count(format!("{prefix}total"), exact.len()));
        }
    };
    add("", &|_| true);
    add("HasAns_", &Question::is_answerable);
    add("NoAns_", &|question| !question.is_answerable());
    if let Some(no_answer) = no_answer {
        for (name, which) in [("best_exact", 0), ("best_f1", 1)] {
            let mut gains = HashMap::<&str, f64>::new();
            for ((question, prediction), score) in asked.iter().zip(&raw) {
                let gain = match (question.is_answerable(), prediction.is_empty()) {
                    (true, _) => score[which],
                    (false, true) => 0.0,
                    (false, false) => -1.0,
                };
                gains.insert(&question.id, gain);
            }
            let unanswerable = asked.iter().filter(|(q, _)| !q.is_answerable()).count();
            let (best, threshold) = best_threshold(no_answer, &gains, unanswerable);
            metrics.push(Metric::number(name, 100.0 * best / asked.len() as f64));
            metrics.push(Metric::number(format!("{name}_thresh"), threshold));
        }
    }
    Ok(metrics)
}
