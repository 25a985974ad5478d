//! `DataFormat`: which fields a record has and what they mean.

use std::fmt;
use std::str::FromStr;

/// Which fields a record has. How records stand in a file is another matter: every format is read
/// from JSON lines, from a JSON array and, where all its fields are texts, from CSV or TSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataFormat {
    /// `{"messages": [{"role": "user", "content": "..."}, ...]}`; a message may have a `weight` of 0
    /// or 1, and 0 means that an answer is not learnt.
    ///
    /// Source: <https://platform.openai.com/docs/guides/supervised-fine-tuning>
    Messages,
    /// `{"instruction": "...", "input": "...", "output": "..."}`, where `input` may be empty or
    /// absent. The question is `instruction`, and `input` on the next line. `system` and `history`
    /// (pairs of question and answer, learnt as well) are LLaMA-Factory's additions.
    ///
    /// Source: <https://github.com/tatsu-lab/stanford_alpaca#data-release> and
    /// <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>
    Alpaca,
    /// `{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}`,
    /// with an optional `system`. `role` and `content` do in the place of `from` and `value`.
    ///
    /// Source: <https://github.com/lm-sys/FastChat/blob/main/docs/training.md>
    ShareGpt,
    /// `{"prompt": "...", "completion": "..."}`: a question and an answer, spaces at their ends
    /// included.
    ///
    /// Source: <https://platform.openai.com/docs/api-reference/fine-tuning> (the completions format)
    PromptCompletion,
    /// `{"question": "...", "answer": "..."}`; also `text` with `category` (BANKING77) or `label`,
    /// or the fields of `ReadOptions::columns`. A corpus of texts that happen to have labels is to
    /// be named [`Text`](Self::Text).
    QuestionAnswer,
    /// `{"text": "..."}`, or a `.txt` file: text to learn as a whole.
    Text,
}

/// Pairs of fields that are a question and its answer without being named by the user.
const PAIRS: [(&str, &str); 3] = [("question", "answer"), ("text", "category"), ("text", "label")];

impl DataFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Messages,
        Self::Alpaca,
        Self::ShareGpt,
        Self::PromptCompletion,
        Self::QuestionAnswer,
        Self::Text,
    ];

    /// The name that [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::PromptCompletion => "prompt-completion",
            Self::QuestionAnswer => "question-answer",
            Self::Text => "text",
        }
    }

    /// The format of a record with these fields.
    pub(super) fn of_fields(has: impl Fn(&str) -> bool) -> Option<Self> {
        if has("messages") {
            Some(Self::Messages)
        } else if has("conversations") {
            Some(Self::ShareGpt)
        } else if has("instruction") {
            Some(Self::Alpaca)
        } else if has("prompt") || has("completion") {
            Some(Self::PromptCompletion)
        } else if has("question") || pair_of(&has).is_some() {
            Some(Self::QuestionAnswer)
        } else {
            has("text").then_some(Self::Text)
        }
    }

    /// Fields that every record of the format has; of the pairs, the first.
    pub(super) fn required_fields(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["messages"],
            Self::Alpaca => &["instruction", "output"],
            Self::ShareGpt => &["conversations"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::QuestionAnswer => &["question", "answer"],
            Self::Text => &["text"],
        }
    }
}

/// The question's and the answer's field in a record with these fields.
pub(super) fn pair_of(has: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
    PAIRS.into_iter().find(|(question, answer)| has(question) && has(answer))
}

impl fmt::Display for DataFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DataFormat {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownName {
            name: name.into(),
            known: Self::ALL.iter().map(|format| format.name()).collect(),
        })
    }
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is none of {}", known.join(", "))]
pub struct UnknownName {
    /// The name.
    pub name: String,
    /// Those that there are.
    pub known: Vec<&'static str>,
}
