//! A question and its answer as a row.

use lightglm_train::data::{Conversation, REASONING, Role, TOOL_CALLS, Turn};
use serde_json::{Map, Value, json};

use super::answer_source::{Question, TeacherAnswer};
use super::answers_file::Place;
use crate::training::token_logprobs::TokenLogprobs;

/// The field of a row that says which answer it is; with log-probabilities where there are.
pub(in crate::training) const TEACHER: &str = "teacher";

/// The field in it with the log-probabilities of the answer's tokens.
pub(in crate::training) const LOGPROBS: &str = "logprobs";

/// Fields of a row that its answer needs as well, or is tested by.
const KEPT: [&str; 3] = ["id", "tools", "expect"];

/// A line of JSON, without its end.
pub(super) fn row_of(question: &Question<'_>, answer: TeacherAnswer) -> String {
    let mut message = Map::new();
    message.insert("role".into(), Role::Assistant.as_str().into());
    message.insert("content".into(), answer.text.into());
    if let Some(reasoning) = answer.reasoning.filter(|reasoning| !reasoning.trim().is_empty()) {
        message.insert(REASONING.into(), reasoning.into());
    }
    if !answer.tool_calls.is_empty() {
        message.insert(TOOL_CALLS.into(), answer.tool_calls.into());
    }
    let mut row = Map::new();
    let mut messages = messages_of(question.conversation);
    if let Value::Array(messages) = &mut messages {
        messages.push(message.into());
    }
    row.insert("messages".into(), messages);
    for name in KEPT {
        if let Some(value) = question.conversation.extra.get(name) {
            row.insert(name.into(), value.clone());
        }
    }
    let mut teacher = Map::new();
    teacher.insert("prompt".into(), question.prompt.into());
    teacher.insert("sample".into(), question.sample.into());
    teacher.insert("cut".into(), answer.is_cut.into());
    if let Some(logprobs) = answer.logprobs {
        let logprobs = logprobs.iter().map(TokenLogprobs::to_json);
        teacher.insert(LOGPROBS.into(), logprobs.collect());
    }
    row.insert(TEACHER.into(), teacher.into());
    Value::Object(row).to_string()
}

/// The messages in front of a conversation's last answer.
pub(in crate::training) fn messages_of(conversation: &Conversation) -> Value {
    conversation.question().iter().map(message_of).collect()
}

fn message_of(turn: &Turn) -> Value {
    let mut message = json!({"role": turn.role.as_str(), "content": turn.content});
    for (name, value) in &turn.extra {
        message[name] = value.clone();
    }
    if turn.role == Role::Assistant && !turn.learn {
        message["weight"] = 0.into();
    }
    message
}

/// Which answer a row is.
pub(super) fn place_of(row: &str) -> Option<Place> {
    let row: Value = serde_json::from_str(row).ok()?;
    let teacher = row.get(TEACHER)?;
    let number = |name: &str| teacher.get(name)?.as_u64();
    Some(Place { prompt: number("prompt")?, sample: number("sample")? })
}
