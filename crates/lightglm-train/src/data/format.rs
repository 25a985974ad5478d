//! `DataFormat`: which fields a record has and what they mean.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Which fields a record has. How records stand in a file is another matter: every format is read
/// from JSON lines, from a JSON array and, where all its fields are texts, from CSV or TSV.
///
/// A field may have its name in Chinese (`问题`, `答案`, `指令`, `输入`, `输出`, ...) or in capitals. All
/// formats but [`Text`](Self::Text) may have a `system` (the first turn), a `history` (earlier turns, pairs
/// of question and answer or messages, learnt as well), `tools`, and the `reasoning_content` of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataFormat {
    /// `{"messages": [{"role": "user", "content": "..."}, ...]}`; a message may have a `weight` of 0
    /// or 1 (or `loss`, `train`, `loss_mask`), and 0 means that an answer is not learnt.
    ///
    /// Source: <https://platform.openai.com/docs/guides/supervised-fine-tuning>
    Messages,
    /// `{"instruction": "...", "input": "...", "output": "..."}`, where `input` may be empty or
    /// absent. The question is `instruction`, and `input` on the next line. Dolly's `context` and
    /// `response` do in the place of `input` and `output`.
    ///
    /// Source: <https://github.com/tatsu-lab/stanford_alpaca#data-release> and
    /// <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>
    Alpaca,
    /// `{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}`.
    /// `role` and `content` do in the place of `from` and `value`, and so does an element per exchange:
    /// `{"human": "...", "assistant": "..."}`.
    ///
    /// Source: <https://github.com/lm-sys/FastChat/blob/main/docs/training.md>
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// `{"prompt": "...", "completion": "..."}`: a question and an answer, spaces at their ends
    /// included; or two lists of messages, of which those of the completion are learnt.
    ///
    /// Source: <https://platform.openai.com/docs/api-reference/fine-tuning> (the completions format) and
    /// <https://huggingface.co/docs/trl/dataset_formats>
    PromptCompletion,
    /// `{"question": "...", "answer": "..."}`; a `question`, `query`, `prompt` or `input` with an
    /// `answer`, `response`, `output`, `completion`, `target` or `label`; `content`, `document` or
    /// `text` with `summary`; `problem` with `solution` or `answer`; `source` with `target`; `text` with
    /// `category` (BANKING77) or `label`; or the fields of
    /// `ReadOptions::columns`. A corpus of texts that happen to have labels is to be named
    /// [`Text`](Self::Text).
    QuestionAnswer,
    /// `{"prompt": "...", "chosen": "...", "rejected": "..."}`: a question, a better and a worse
    /// answer, as texts, messages or lists of messages. What of this crate learns from answers refuses
    /// them.
    ///
    /// Source: <https://huggingface.co/docs/trl/dataset_formats> and
    /// <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>
    Preference,
    /// `{"text": "..."}`, or a `.txt` file: text to learn as a whole.
    Text,
}

/// Fields that are a question, and those that are its answer, the likeliest first.
const QUESTIONS: [&str; 4] = ["question", "query", "prompt", "input"];
const ANSWERS: [&str; 6] = ["answer", "response", "output", "completion", "target", "label"];

/// Further pairs of fields that are a question and its answer.
const PAIRS: [(&str, &str); 13] = [
    ("q", "a"),
    ("Q", "A"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("question", "solution"),
    ("source", "target"),
    ("content", "summary"),
    ("document", "summary"),
    ("text", "summary"),
    ("text", "category"),
    ("text", "label"),
    ("question", "category"),
    ("query", "category"),
];

/// The fields that are the answer of [`DataFormat::Alpaca`].
pub(super) const ALPACA_ANSWERS: [&str; 4] = ["output", "response", "answer", "completion"];

impl DataFormat {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Messages,
        Self::Alpaca,
        Self::ShareGpt,
        Self::PromptCompletion,
        Self::QuestionAnswer,
        Self::Preference,
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
            Self::Preference => "preference",
            Self::Text => "text",
        }
    }

    /// The format of a record with these fields.
    pub(super) fn of_fields(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::whole(&has).or_else(|| {
            // Half of a format: the reader says what is missing.
            if has("instruction") {
                Some(Self::Alpaca)
            } else if has("prompt") || has("completion") {
                Some(Self::PromptCompletion)
            } else if has("question") || has("query") {
                Some(Self::QuestionAnswer)
            } else {
                has("text").then_some(Self::Text)
            }
        })
    }

    /// The format of which a record with these fields has all that is needed, but for
    /// [`Text`](Self::Text).
    pub(super) fn whole(has: impl Fn(&str) -> bool) -> Option<Self> {
        let is_preference = has("chosen") && has("rejected")
            || ["rejected_response", "rejected_messages", "kto_tag"].into_iter().any(&has);
        if is_preference {
            Some(Self::Preference)
        } else if has("messages") {
            Some(Self::Messages)
        } else if has("conversations") {
            Some(Self::ShareGpt)
        } else if has("instruction") && ALPACA_ANSWERS.into_iter().any(&has) {
            Some(Self::Alpaca)
        } else if has("prompt") && has("completion") {
            Some(Self::PromptCompletion)
        } else {
            pair_of(&has).map(|_| Self::QuestionAnswer)
        }
    }

    /// A field that every record of the format has, and one with these fields has not.
    pub(super) fn missing_field(self, has: impl Fn(&str) -> bool) -> Option<&'static str> {
        let needed: &[&str] = match self {
            Self::Messages => &["messages"],
            Self::Alpaca if ALPACA_ANSWERS.into_iter().any(&has) => &["instruction"],
            Self::Alpaca => &["instruction", "output"],
            Self::ShareGpt => &["conversations"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::QuestionAnswer if pair_of(&has).is_some() => &[],
            Self::QuestionAnswer if has("query") => &["response"],
            Self::QuestionAnswer => &["question", "answer"],
            Self::Preference => &[],
            Self::Text => &["text"],
        };
        needed.iter().copied().find(|name| !has(name))
    }
}

/// The question's and the answer's field in a record with these fields.
pub(super) fn pair_of(has: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
    let found = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
    let pair = found(&QUESTIONS).zip(found(&ANSWERS));
    pair.or_else(|| PAIRS.into_iter().find(|(question, answer)| has(question) && has(answer)))
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
