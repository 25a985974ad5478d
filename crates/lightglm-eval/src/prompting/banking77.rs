//! BANKING77 as prompts: a message, and its intent in words.

use super::prompt::{Prompt, Shot};
use crate::data::LabeledText;

/// The prompt that asks for the label of `text` after the solved `shots`.
///
/// It does not list the labels: a model is not asked to choose, each label's likelihood is read
/// off.
pub fn label_prompt(text: &str, shots: &[LabeledText]) -> Prompt {
    let question = |text: &str| format!("Message: {}", text.trim());
    let shot = |shot: &LabeledText| Shot {
        question: question(&shot.text),
        answer: spoken_label(&shot.label),
    };
    Prompt {
        instruction: "Name the intent of each message that a customer writes to a bank, in a few \
                      words."
            .to_owned(),
        shots: shots.iter().map(shot).collect(),
        question: question(text),
        cue: "Intent:",
    }
}

/// A label as words: `card_arrival` as `card arrival`.
pub fn spoken_label(label: &str) -> String {
    label.replace('_', " ")
}
