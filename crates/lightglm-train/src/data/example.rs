//! `Example`: what a training file is read into, a conversation or plain text.

use std::fmt;

use serde_json::{Map, Value};

/// One thing to learn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A conversation whose answers are learnt (supervised fine-tuning).
    Conversation(Conversation),
    /// A text that is learnt as a whole (continued pre-training).
    Text(Text),
}

/// A conversation, and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The turns, in order. From a reader: at least one, the last from the assistant, and at least
    /// one with [`Turn::learn`].
    pub turns: Vec<Turn>,
    /// Line of the file, counting from 1, on which the record began.
    pub line: usize,
    /// The record's other fields, in their order (`tools`, `id`, `expect`, ...).
    pub extra: Map<String, Value>,
}

/// What one participant said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, untouched.
    pub content: String,
    /// Whether the loss counts it: the assistant's turns, but for those of weight 0.
    pub learn: bool,
}

/// A plain text, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Line of the file, counting from 1, on which the record began.
    pub line: usize,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Whoever runs the assistant.
    System,
    /// Who asks.
    User,
    /// Who answers: the model.
    Assistant,
    /// What a tool returned; the text side knows what the template calls it.
    Tool,
}

impl Role {
    /// The role under the names that files give it: `developer` is the system, `human` the user,
    /// `gpt` and `chatgpt` the assistant, `observation` and `function` a tool.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "system" | "developer" => Self::System,
            "user" | "human" => Self::User,
            "assistant" | "gpt" | "chatgpt" => Self::Assistant,
            "tool" | "function" | "observation" => Self::Tool,
            _ => return None,
        })
    }

    /// The role's name in the messages format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Turn {
    /// A turn that is learnt where it is the assistant's.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), learn: role == Role::Assistant }
    }
}

impl Example {
    /// Line of the file, counting from 1, on which the record began.
    pub fn line(&self) -> usize {
        match self {
            Self::Conversation(conversation) => conversation.line,
            Self::Text(text) => text.line,
        }
    }

    /// The conversation, where it is one.
    pub fn conversation(&self) -> Option<&Conversation> {
        match self {
            Self::Conversation(conversation) => Some(conversation),
            Self::Text(_) => None,
        }
    }
}

impl Conversation {
    /// The last answer (the label, where the conversation is a text and its label); empty where
    /// nobody answered.
    pub fn answer(&self) -> &str {
        let mut answers = self.turns.iter().rev().filter(|turn| turn.role == Role::Assistant);
        answers.next().map_or("", |turn| &turn.content)
    }

    /// The turns in front of the last answer: what a model is asked when it is tested.
    pub fn question(&self) -> &[Turn] {
        let answer = self.turns.iter().rposition(|turn| turn.role == Role::Assistant);
        &self.turns[..answer.unwrap_or(self.turns.len())]
    }

    /// The texts of which one must occur in a good answer, from the field `expect`: a list of texts
    /// or one text. Empty where there is no such field; what is no text is passed over.
    ///
    /// The field is this project's own; other readers ignore it.
    pub fn expectations(&self) -> Vec<&str> {
        match self.extra.get("expect") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether one of the [`expectations`](Self::expectations) occurs in `answer`, whatever the
    /// case; `None` where there are none.
    pub fn meets_expectations(&self, answer: &str) -> Option<bool> {
        let expectations = self.expectations();
        let answer = answer.to_lowercase();
        let met = expectations.iter().any(|text| answer.contains(&text.to_lowercase()));
        (!expectations.is_empty()).then_some(met)
    }
}
