//! How people write: a question as it stands, or with a greeting, in lower case, without its mark.

use super::language::Language;
use super::random::Random;

pub(super) fn as_written(question: &str, language: Language, random: &mut Random) -> String {
    let mut text = question.to_owned();
    match language {
        Language::English => {
            if random.chance(0.12) {
                text = text.to_lowercase();
            }
            if random.chance(0.10) {
                text = text.trim_end_matches(['?', '.']).to_owned();
            }
            if random.chance(0.08) {
                let opening = [
                    "Hi, ",
                    "Hello! ",
                    "Excuse me, ",
                    "Hi there. ",
                    "Quick question: ",
                    "Please tell me: ",
                ];
                text = format!("{}{text}", random.pick(&opening));
            } else if random.chance(0.04) {
                let end = [" Thanks!", " Thank you.", " Please help."];
                text = format!("{text}{}", random.pick(&end));
            }
        }
        Language::Chinese => {
            if random.chance(0.12) {
                text = text.trim_end_matches(['？', '。']).to_owned();
            }
            if random.chance(0.12) {
                let opening =
                    ["你好，", "您好，", "请问", "请问一下，", "想问一下，", "麻烦问下，"];
                text = format!("{}{text}", random.pick(&opening));
            } else if random.chance(0.04) {
                text = format!("{text}{}", random.pick(&["谢谢！", "谢谢。", "急！"]));
            }
        }
    }
    text
}

/// The first letter as a capital, where it is one of ASCII.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
