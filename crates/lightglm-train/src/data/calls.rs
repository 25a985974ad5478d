//! Calls of tools in any of the shapes that files have, as OpenAI's `tool_calls`.

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::fields::from_text;
use super::record::Located;

fn refused(at: &str, reason: impl Into<String>) -> Located {
    Located::field(at, Fault::ToolCalls { reason: reason.into() })
}

/// OpenAI's list of calls, each with its function's name.
pub(super) fn openai_calls(calls: Vec<Value>, at: &str) -> Result<Vec<Value>, Located> {
    let calls = calls.into_iter().enumerate();
    calls.map(|(index, call)| openai_call(call, &format!("{at}[{index}]"))).collect()
}

fn openai_call(call: Value, at: &str) -> Result<Value, Located> {
    let Value::Object(mut call) = call else { return Err(refused(at, "it is no object")) };
    match call.shift_remove("function") {
        Some(function) => {
            let function = function_of(function, at)?;
            call.entry("type").or_insert_with(|| "function".into());
            call.insert("function".into(), function);
            Ok(Value::Object(call))
        }
        // Without the envelope.
        None => legacy_call(Value::Object(call), at),
    }
}

/// OpenAI's `function_call` of before: a name and arguments.
pub(super) fn legacy_call(call: Value, at: &str) -> Result<Value, Located> {
    Ok(json!({"type": "function", "function": function_of(call, at)?}))
}

/// The calls in the text of a turn: one, or a list of them.
pub(super) fn calls_of_text(value: Value, at: &str) -> Result<Vec<Value>, Located> {
    match from_text(value) {
        Value::Array(calls) if !calls.is_empty() => openai_calls(calls, at),
        call @ Value::Object(_) => Ok(vec![openai_call(call, at)?]),
        _ => Err(refused(at, "it is no JSON of a name and arguments")),
    }
}

fn function_of(function: Value, at: &str) -> Result<Value, Located> {
    let Value::Object(mut function) = function else { return Err(refused(at, "it is no object")) };
    let name = function.shift_remove("name");
    let Some(Value::String(name)) = name.filter(|name| name.as_str() != Some("")) else {
        return Err(refused(at, "the function has no name"));
    };
    let arguments =
        ["arguments", "parameters"].iter().find_map(|name| function.shift_remove(*name));
    let arguments = match arguments {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(arguments @ (Value::String(_) | Value::Object(_))) => arguments,
        Some(_) => return Err(refused(at, "the arguments are neither an object nor a text")),
    };
    if let Some(other) = function.keys().next() {
        return Err(refused(at, format!("a call has a name and arguments, no `{other}`")));
    }
    Ok(json!({"name": name, "arguments": arguments}))
}
