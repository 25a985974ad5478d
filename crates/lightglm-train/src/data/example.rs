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
    /// A better and a worse answer (preference optimization).
    Preference(Preference),
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
    /// What else the message has that a chat template may write: [`TOOL_CALLS`], [`REASONING`],
    /// `name`, `tool_call_id`.
    pub extra: Map<String, Value>,
}

/// The field of [`Turn::extra`] with an assistant's calls of tools, as OpenAI has them.
pub const TOOL_CALLS: &str = "tool_calls";

/// The field of [`Turn::extra`] with what an assistant thinks before it answers.
pub const REASONING: &str = "reasoning_content";

/// A question with a better and a worse answer, and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// The turns that are answered.
    pub prompt: Vec<Turn>,
    /// The better answer's turns.
    pub chosen: Vec<Turn>,
    /// The worse answer's turns.
    pub rejected: Vec<Turn>,
    /// Line of the file, counting from 1, on which the record began.
    pub line: usize,
    /// The record's other fields, in their order.
    pub extra: Map<String, Value>,
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
    /// `gpt`, `bot` and `model` the assistant, `observation`, `function` and `tool_response` a tool.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "system" | "developer" | "系统" => Self::System,
            "user" | "human" | "用户" => Self::User,
            "assistant" | "gpt" | "chatgpt" | "bot" | "model" | "助手" => Self::Assistant,
            "tool" | "function" | "observation" | "tool_response" | "function_response"
            | "ipython" => Self::Tool,
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
        let (content, learn) = (content.into(), role == Role::Assistant);
        Self { role, content, learn, extra: Map::new() }
    }

    /// Whether it calls tools or thinks.
    pub(super) fn says_more_than_content(&self) -> bool {
        self.extra.contains_key(TOOL_CALLS) || self.extra.contains_key(REASONING)
    }
}

impl Example {
    /// Line of the file, counting from 1, on which the record began.
    pub fn line(&self) -> usize {
        match self {
            Self::Conversation(conversation) => conversation.line,
            Self::Text(text) => text.line,
            Self::Preference(preference) => preference.line,
        }
    }

    /// The conversation, where it is one.
    pub fn conversation(&self) -> Option<&Conversation> {
        match self {
            Self::Conversation(conversation) => Some(conversation),
            Self::Text(_) | Self::Preference(_) => None,
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
