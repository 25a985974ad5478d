//! `Spoken`: a conversation's turns as messages, calls of tools in the form that the template writes.

use lightglm_text::{ChatText, ChatTextError, Message};
use serde_json::{Map, Value};

use super::error::TokenizeError;
use crate::data::example::{REASONING, Role, TOOL_CALLS, Turn};
use crate::data::python_json::json_text;

/// The field in which GLM-4's template looks for the called function's name.
const METADATA: &str = "metadata";

/// A message, and the turn that it is of.
#[derive(Clone, Debug)]
pub(super) struct Spoken {
    pub(super) message: Message,
    /// Index of the turn.
    pub(super) turn: usize,
    pub(super) role: Role,
    pub(super) learn: bool,
    pub(super) calls: bool,
}

/// How calls of tools reach a template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallForm {
    /// As OpenAI's `tool_calls`, the arguments a text of JSON: what a client sends to the server.
    Texts,
    /// The same, the arguments an object: what most templates ask for, where the text side hands on what
    /// it gets.
    Objects,
    /// As GLM-4 has it and the server hands it on: a message a call, the function's name in
    /// `metadata`, the arguments its content.
    Metadata,
}

/// The turns as messages. Calls are in the first form that the template writes.
///
/// # Errors
/// [`TokenizeError::ToolCalls`] where it writes none of them.
pub(super) fn spoken(
    text: &dyn ChatText,
    turns: &[Turn],
    tools: &[Value],
    line: usize,
) -> Result<Vec<Spoken>, TokenizeError> {
    let call = turns.iter().position(|turn| turn.extra.contains_key(TOOL_CALLS));
    let Some(call) = call else { return Ok(messages_of(turns, CallForm::Texts)) };
    let forms = [CallForm::Texts, CallForm::Objects, CallForm::Metadata];
    let written = forms.into_iter().find_map(|form| {
        let spoken = messages_of(turns, form);
        are_calls_written(text, &spoken, tools, form).unwrap_or(false).then_some(spoken)
    });
    written.ok_or(TokenizeError::ToolCalls { line, turn: call + 1 })
}

fn messages_of(turns: &[Turn], form: CallForm) -> Vec<Spoken> {
    let mut spoken = Vec::with_capacity(turns.len());
    for (index, turn) in turns.iter().enumerate() {
        let calls = turn.extra.get(TOOL_CALLS).and_then(Value::as_array);
        let mut push = |message: Message, calls: bool| {
            let learn = turn.learn && turn.role == Role::Assistant;
            spoken.push(Spoken { message, turn: index, role: turn.role, learn, calls });
        };
        let mut message = Message::new(turn.role.as_str(), turn.content.as_str());
        let others = turn.extra.iter().filter(|(name, _)| *name != TOOL_CALLS);
        message.extra = others.map(|(name, value)| (name.clone(), value.clone())).collect();
        match (calls, form) {
            (None, _) => push(message, false),
            (Some(calls), CallForm::Metadata) => {
                if !turn.content.is_empty() || turn.extra.contains_key(REASONING) {
                    push(message, false);
                }
                for call in calls {
                    let (name, arguments) =
                        (&call["function"]["name"], &call["function"]["arguments"]);
                    let said = Message::assistant(as_text(arguments));
                    push(said.with(METADATA, name.clone()), true);
                }
            }
            (Some(calls), _) => {
                let calls = calls.iter().map(|call| with_arguments(call.clone(), form));
                let calls = Value::Array(calls.collect());
                push(message.with(TOOL_CALLS, calls), true);
            }
        }
    }
    spoken
}

fn with_arguments(mut call: Value, form: CallForm) -> Value {
    let arguments = &mut call["function"]["arguments"];
    match (form, &*arguments) {
        (CallForm::Objects, Value::String(text)) => {
            if let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) {
                *arguments = Value::Object(object);
            }
        }
        (CallForm::Texts, Value::Object(_)) => *arguments = as_text(arguments).into(),
        _ => {}
    }
    call
}

/// Whether other calls would make other tokens: each message's, for itself, and their names as well as
/// their arguments.
fn are_calls_written(
    text: &dyn ChatText,
    spoken: &[Spoken],
    tools: &[Value],
    form: CallForm,
) -> Result<bool, ChatTextError> {
    let mut messages: Vec<Message> = spoken.iter().map(|said| said.message.clone()).collect();
    let whole = text.encode_conversation(&messages, tools, false)?;
    for (index, said) in spoken.iter().enumerate().filter(|(_, said)| said.calls) {
        let others = match form {
            CallForm::Metadata => vec![said.message.clone().with(METADATA, "x")],
            _ => ["name", "arguments"]
                .map(|part| with_other_calls(said.message.clone(), &[part]))
                .into(),
        };
        for other in others {
            messages[index] = other;
            // A template that fails on another call has looked at it.
            let other = text.encode_conversation(&messages, tools, false);
            if other.is_ok_and(|other| other == whole) {
                return Ok(false);
            }
        }
        messages[index] = said.message.clone();
    }
    Ok(true)
}

/// A message of the same kind that says something else from its first character on.
pub(super) fn altered(message: &Message) -> Message {
    let mut altered = with_other_calls(message.clone(), &["name", "arguments"]);
    if let Some(Value::String(content)) = &mut altered.content
        && !content.is_empty()
    {
        *content = other_than(content).to_owned();
    }
    if let Some(Value::String(reasoning)) = altered.extra.get_mut(REASONING) {
        *reasoning = other_than(reasoning).to_owned();
    }
    altered
}

/// The message with calls of which these `parts` (`name`, `arguments`) are others.
fn with_other_calls(mut message: Message, parts: &[&str]) -> Message {
    let calls = message.extra.get_mut(TOOL_CALLS).and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        for part in parts {
            let value = &mut call["function"][*part];
            *value = match (*part, &*value) {
                ("name", Value::String(name)) => other_than(name).into(),
                (_, Value::String(_)) => "{\"x\": \"other\"}".into(),
                _ => serde_json::json!({"x": "other"}),
            };
        }
    }
    message
}

/// A text that begins otherwise.
fn other_than(text: &str) -> &'static str {
    if text.starts_with('x') { "y" } else { "x" }
}

/// Arguments as a model writes them: the text that a file has, or JSON with Python's spaces.
fn as_text(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => text.clone(),
        other => json_text(other),
    }
}
