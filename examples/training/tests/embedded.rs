//! What the embedded model answers to questions that were written by hand and held back
//! (`crates/lightglm-tiny/tests/questions`). An answer is right where it is a right one to the letter, or has an F1 of
//! at least 0.6 against one: SQuAD 2.0's words in English, CMRC 2018's characters in Chinese.

use std::path::PathBuf;

use lightglm::{DEFAULT_MODEL, LoadOptions, Model, ProgressSink};
use lightglm_tiny::corpus::Language;
use lightglm_training_examples::tiny::questions::{Question, Score, ask, read};

/// Of a hundred, what the model card tells less 3: on another processor sums are rounded otherwise, and an answer may turn.
struct AtLeast {
    right: usize,
    values: usize,
    refused: usize,
    /// Of those that can be answered, at most.
    wrongly_refused: usize,
}

fn questions(file: &str) -> Vec<Question> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crates/lightglm-tiny");
    let questions = read(&folder.join("tests/questions").join(file)).unwrap();
    assert_eq!(questions.len(), 200);
    questions
}

fn check(language: Language, file: &str, at_least: AtLeast) {
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let progress = ProgressSink::default();
    let (_, score): (_, Score) = ask(&model, language, &questions(file), &progress).unwrap();
    println!("{file}: {score}");
    let share = |part: usize, of: usize| 100 * part / of;
    assert!(share(score.right, score.answerable) >= at_least.right, "{score}");
    assert!(share(score.slots_told_copied, score.slots_told) >= at_least.values, "{score}");
    assert!(share(score.refused, score.unanswerable) >= at_least.refused, "{score}");
    assert!(share(score.wrongly_refused, score.answerable) <= at_least.wrongly_refused, "{score}");
}

#[test]
fn english_questions_by_hand() {
    let at_least = AtLeast { right: 48, values: 95, refused: 47, wrongly_refused: 17 };
    check(Language::English, "en.jsonl", at_least);
}

#[test]
fn chinese_questions_by_hand() {
    let at_least = AtLeast { right: 68, values: 95, refused: 60, wrongly_refused: 19 };
    check(Language::Chinese, "zh.jsonl", at_least);
}

#[test]
fn a_chinese_character_takes_few_tokens() {
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let (mut tokens, mut characters) = (0, 0);
    for question in questions("zh.jsonl") {
        tokens += lightglm::ChatText::encode(model.text(), &question.context).unwrap().len();
        characters += question.context.chars().count();
    }
    let share = tokens as f64 / characters as f64;
    println!("{share:.3} tokens a character");
    assert!(share <= 1.0, "{share}");
}
