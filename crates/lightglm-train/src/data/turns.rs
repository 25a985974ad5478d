//! `turns_of`: a list of messages as turns, in the shapes of OpenAI, ShareGPT and ms-swift.

use serde_json::{Map, Value, json};

use super::calls::{calls_of_text, legacy_call, openai_calls};
use super::example::{REASONING, Role, TOOL_CALLS, Turn};
use super::fault::Fault;
use super::fields::{MEDIA, content, from_text, is_blank, is_nothing, missing, wrong_type};
use super::python_json::json_text;
use super::record::Located;

/// What a list of messages says.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) turns: Vec<Turn>,
    /// Tools that stand in a message, as GLM's own files have them in the system's.
    pub(super) tools: Option<Value>,
    /// Fields of messages that mean nothing here: `messages[].name`.
    pub(super) unused: Vec<String>,
}

/// Fields that say whether an answer is learnt.
const LOSS: [&str; 8] =
    ["weight", "loss", "train", "training", "loss_mask", "loss_scale", "loss_weight", "trainable"];

/// Roles of turns that are calls of tools, in JSON.
const CALLS: [&str; 3] = ["function_call", "tool_call", "tool_calls"];

/// Names of who asks and who answers where an element is an exchange.
const ASKS: [&str; 8] = ["human", "user", "input", "question", "query", "prompt", "问", "用户"];
const ANSWERS: [&str; 8] =
    ["assistant", "gpt", "bot", "output", "answer", "response", "答", "助手"];

/// Fields of a message that its template may look at.
const FOR_TEMPLATES: [&str; 3] = ["name", "tool_call_id", "metadata"];

/// The turns of the messages in the field `name`.
pub(super) fn turns_of(messages: Vec<Value>, name: &str) -> Result<Turns, Located> {
    let mut turns = Turns::default();
    let mut behind_call = false;
    for (index, message) in messages.into_iter().enumerate() {
        let at = format!("{name}[{index}]");
        let Value::Object(message) = message else {
            return Err(wrong_type(at, "a message", &message));
        };
        let reader = MessageReader { list: name, at, fields: message };
        let has = |name: &str| reader.fields.get(name).is_some_and(|value| !value.is_null());
        if !has("role") && !has("from") && ANSWERS.iter().any(|name| has(name)) {
            reader.exchange(&mut turns)?;
            behind_call = false;
        } else {
            behind_call = reader.message(&mut turns, behind_call)?;
        }
    }
    calls_in_contents(&mut turns.turns);
    turns.unused.sort();
    turns.unused.dedup();
    Ok(turns)
}

/// Makes calls of the answers that are nothing but the JSON of a call, where a tool's answer follows: so
/// GLM-4's own files for fine-tuning have them.
fn calls_in_contents(turns: &mut [Turn]) {
    for index in 1..turns.len() {
        let [turn, next] = &mut turns[index - 1..=index] else { continue };
        let is_call = turn.role == Role::Assistant && next.role == Role::Tool;
        if is_call
            && turn.extra.is_empty()
            && turn.content.trim_start().starts_with(['{', '['])
            && let Ok(calls) = calls_of_text(turn.content.as_str().into(), "")
        {
            turn.content.clear();
            turn.extra.insert(TOOL_CALLS.into(), Value::Array(calls));
        }
    }
}

/// One message and where it stands.
struct MessageReader<'a> {
    list: &'a str,
    at: String,
    fields: Map<String, Value>,
}

impl MessageReader<'_> {
    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    fn fault(&self, name: &str, fault: Fault) -> Located {
        Located::field(self.field(name), fault)
    }

    /// A field that says something, taken out.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    /// The one of two fields that is there, and its name.
    fn either(&mut self, names: [&'static str; 2]) -> Option<(&'static str, Value)> {
        names.into_iter().find_map(|name| Some((name, self.take(name)?)))
    }

    /// Reads a message; true where it is a call in a turn of its own, and `behind_call` says so of the
    /// one before: calls in a row are made at once.
    fn message(mut self, into: &mut Turns, behind_call: bool) -> Result<bool, Located> {
        let is_from = self.fields.contains_key("from");
        let (role_name, content_name) =
            if is_from { ("from", "value") } else { ("role", "content") };
        let name = match self.either(["role", "from"]) {
            Some((_, Value::String(name))) => name,
            Some((field, other)) => return Err(wrong_type(self.field(field), "a text", &other)),
            None => return Err(missing(&self.field(role_name))),
        };
        let is_call = CALLS.contains(&name.as_str());
        let role = if is_call { Some(Role::Assistant) } else { Role::from_name(&name) };
        let Some(role) = role else {
            return Err(self.fault(role_name, Fault::UnknownRole { role: name }));
        };
        self.refuse_media()?;
        let mut calls = self.calls(role)?;
        if role == Role::Tool {
            self.call_and_answer(into)?;
        }
        let said = match self.either(["content", "value"]) {
            Some((field, value)) if is_call => {
                let at = self.field(field);
                calls.extend(calls_of_text(value, &at)?);
                String::new()
            }
            // What a tool returns is JSON more often than not.
            Some((_, value @ Value::Object(_))) if role == Role::Tool => json_text(&value),
            Some((field, value)) => content(value, &self.field(field))?,
            None if !calls.is_empty() => String::new(),
            None => return Err(missing(&self.field(content_name))),
        };
        let mut turn = Turn::new(role, said);
        turn.learn = self.is_learnt(role, into)?;
        self.metadata_call(&mut turn, &mut calls);
        for name in [REASONING, "reasoning", "thinking"] {
            if role == Role::Assistant
                && let Some(value) = self.take(name).filter(|value| !is_nothing(value))
            {
                let text = content(value, &self.field(name))?;
                turn.extra.entry(REASONING).or_insert(Value::String(text));
            }
        }
        if role == Role::System
            && let Some(tools) = self.take("tools").filter(|tools| !is_nothing(tools))
        {
            into.tools = Some(from_text(tools));
        }
        for name in FOR_TEMPLATES {
            if let Some(value) = self.take(name).filter(|value| !is_nothing(value)) {
                turn.extra.insert(name.into(), value);
            }
        }
        self.leave_rest(into);
        if is_call
            && behind_call
            && let Some(Value::Array(before)) =
                into.turns.last_mut().and_then(|before| before.extra.get_mut(TOOL_CALLS))
        {
            before.extend(calls);
            return Ok(true);
        }
        if !calls.is_empty() {
            turn.extra.insert(TOOL_CALLS.into(), Value::Array(calls));
        }
        let fault = match role {
            Role::Assistant if !turn.says_more_than_content() => Fault::EmptyAnswer,
            Role::User => Fault::EmptyQuestion,
            // Exports write an empty one where there is none.
            Role::System if is_blank(&turn.content) => return Ok(false),
            // A tool may have nothing to say.
            _ => return Ok(self.push(into, turn, is_call)),
        };
        if is_blank(&turn.content) {
            return Err(self.fault(content_name, fault));
        }
        Ok(self.push(into, turn, is_call))
    }

    fn push(&self, into: &mut Turns, turn: Turn, is_call: bool) -> bool {
        into.turns.push(turn);
        is_call
    }

    /// Calls in the fields that OpenAI has for them.
    fn calls(&mut self, role: Role) -> Result<Vec<Value>, Located> {
        let mut calls = Vec::new();
        for name in ["tool_calls", "function_call"] {
            let Some(value) = self.take(name).map(from_text).filter(|value| !is_nothing(value))
            else {
                continue;
            };
            let at = self.field(name);
            if role != Role::Assistant {
                let reason = "only an assistant calls tools".to_owned();
                return Err(Located::field(at, Fault::ToolCalls { reason }));
            }
            match value {
                Value::Array(list) => calls.extend(openai_calls(list, &at)?),
                one => calls.push(legacy_call(one, &at)?),
            }
        }
        Ok(calls)
    }

    /// ChatGLM3's own files have a tool's answer, `observation`, in one message with the call of it, `name`
    /// and `parameters`.
    fn call_and_answer(&mut self, into: &mut Turns) -> Result<(), Located> {
        let Some(observation) = self.take("observation") else { return Ok(()) };
        let call = json!({"name": self.take("name"), "arguments": self.take("parameters")});
        let call = legacy_call(call, &self.at)?;
        let mut turn = Turn::new(Role::Assistant, "");
        turn.extra.insert(TOOL_CALLS.into(), json!([call]));
        into.turns.push(turn);
        self.fields.insert("content".into(), observation);
        Ok(())
    }

    /// GLM's own files name the called function in `metadata`, with the arguments as the content.
    fn metadata_call(&mut self, turn: &mut Turn, calls: &mut Vec<Value>) {
        let Some(Value::String(name)) = self.fields.get("metadata") else { return };
        let arguments: Option<Map<String, Value>> = serde_json::from_str(&turn.content).ok();
        if turn.role == Role::Assistant && !is_blank(name) && arguments.is_some() {
            let arguments = std::mem::take(&mut turn.content);
            let function = json!({"name": name.trim(), "arguments": arguments});
            calls.push(json!({"type": "function", "function": function}));
            self.fields.shift_remove("metadata");
        }
    }

    /// Whether the answer is learnt, by the fields that say so.
    fn is_learnt(&mut self, role: Role, into: &mut Turns) -> Result<bool, Located> {
        let mut learnt: Option<bool> = None;
        for name in LOSS {
            let Some(value) = self.take(name) else { continue };
            let says = match &value {
                Value::Bool(learnt) => Some(*learnt),
                Value::Number(number) => match number.as_f64() {
                    Some(0.0) => Some(false),
                    Some(1.0) => Some(true),
                    _ => None,
                },
                _ => None,
            };
            let Some(says) = says else {
                let weight = match value {
                    Value::Number(number) => number.to_string(),
                    other => return Err(wrong_type(self.field(name), "0, 1 or a boolean", &other)),
                };
                return Err(self.fault(name, Fault::Weight { weight }));
            };
            match learnt {
                _ if role != Role::Assistant => {
                    // What others say is never learnt; a mark that it is to be has no effect.
                    if says {
                        into.unused.push(format!("{}[].{name} ({role})", self.list));
                    }
                }
                Some(other) if other != says => return Err(self.fault(name, Fault::LossMarks)),
                _ => learnt = Some(says),
            }
        }
        Ok(role == Role::Assistant && learnt.unwrap_or(true))
    }

    fn refuse_media(&self) -> Result<(), Located> {
        let is_there = |name: &str| self.fields.get(name).is_some_and(|value| !is_nothing(value));
        match MEDIA.iter().find(|name| is_there(name)) {
            Some(name) => Err(self.fault(name, Fault::Media)),
            None => Ok(()),
        }
    }

    /// An element that is a question and its answer.
    fn exchange(mut self, into: &mut Turns) -> Result<(), Located> {
        self.refuse_media()?;
        let learn = self.is_learnt(Role::Assistant, into)?;
        let named = |names: &[&'static str], fields: &Map<String, Value>| {
            names.iter().copied().find(|name| fields.get(*name).is_some_and(|v| !v.is_null()))
        };
        let speakers =
            [(Role::System, &["system"][..]), (Role::User, &ASKS), (Role::Assistant, &ANSWERS)];
        for (role, names) in speakers {
            let Some(name) = named(names, &self.fields) else { continue };
            let value = self.take(name).unwrap_or_default();
            let said = content(value, &self.field(name))?;
            match role {
                Role::Assistant if is_blank(&said) => {
                    return Err(self.fault(name, Fault::EmptyAnswer));
                }
                _ if is_blank(&said) => continue,
                _ => {}
            }
            let turn = Turn::new(role, said);
            into.turns.push(Turn { learn: turn.learn && learn, ..turn });
        }
        self.leave_rest(into);
        Ok(())
    }

    /// What is left of the fields is not used.
    fn leave_rest(&self, into: &mut Turns) {
        let left = self.fields.iter().filter(|(_, value)| !is_nothing(value));
        into.unused.extend(left.map(|(name, _)| format!("{}[].{name}", self.list)));
    }
}
