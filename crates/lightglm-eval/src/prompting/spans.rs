//! SQuAD 2.0 and CMRC 2018 as prompts: a text, a question, and an answer in the text's own words.

use super::prompt::{Prompt, Shot};
use crate::data::Question;

/// What a model is told to say where the text has no answer.
pub const UNANSWERABLE: &str = "unanswerable";

/// Which question set is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanTask {
    /// English; a text need not have an answer.
    Squad2,
    /// Chinese; every question has an answer.
    Cmrc2018,
}

impl SpanTask {
    /// The prompt that asks `question` after the solved `shots`.
    pub fn prompt(self, question: &Question, shots: &[Question]) -> Prompt {
        let instruction = match self {
            Self::Squad2 => {
                "Answer each question with the shortest possible span of words copied from the \
                 text, and nothing else. If the text does not contain the answer, reply \
                 \"unanswerable\"."
            }
            Self::Cmrc2018 => {
                "阅读文章，回答问题。答案必须是文章中原文的一个最短片段，只输出答案，不要解释。"
            }
        };
        let shot = |shot: &Question| Shot {
            question: self.question(shot),
            answer: shot.answers.first().map_or(UNANSWERABLE, String::as_str).to_owned(),
        };
        Prompt {
            instruction: instruction.to_owned(),
            shots: shots.iter().map(shot).collect(),
            question: self.question(question),
            cue: match self {
                Self::Squad2 => "Answer:",
                Self::Cmrc2018 => "答案：",
            },
        }
    }

    fn question(self, question: &Question) -> String {
        let (context, asked) = (question.context.trim(), question.question.trim());
        match self {
            Self::Squad2 => format!("Text: {context}\n\nQuestion: {asked}"),
            Self::Cmrc2018 => format!("文章：{context}\n\n问题：{asked}"),
        }
    }

    /// Whether a reply need not go on: an answer is one line.
    pub fn is_answered(reply: &str) -> bool {
        reply.trim_start().contains('\n')
    }

    /// The answer in a reply: its first line, without quotation marks around it and without the
    /// full stop of a sentence; `""` for [`UNANSWERABLE`] in SQuAD 2.0.
    pub fn answer(self, reply: &str) -> String {
        let line = reply.trim_start().lines().next().unwrap_or_default().trim();
        let line = match self {
            Self::Squad2 => line.strip_prefix("Answer:").unwrap_or(line).trim_start(),
            Self::Cmrc2018 => line.strip_prefix("答案：").unwrap_or(line).trim_start(),
        };
        let line = line.strip_suffix(['.', '。']).unwrap_or(line);
        let quotes = [('"', '"'), ('“', '”'), ('「', '」')];
        let inside =
            quotes.iter().find_map(|&(open, close)| line.strip_prefix(open)?.strip_suffix(close));
        let answer = inside.unwrap_or(line).trim();
        match self {
            Self::Squad2 if answer.to_lowercase().starts_with(UNANSWERABLE) => String::new(),
            _ => answer.to_owned(),
        }
    }
}
