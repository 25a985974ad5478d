//! Tools of a response, which lie flat where a chat's are nested.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::request::optional_list;
use crate::http::dialect::{Translation, list_at, read_at, text_at};
use crate::http::error::ApiError;

/// A function.
#[derive(Deserialize)]
struct FlatTool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Map<String, Value>>,
    strict: Option<bool>,
}

/// Tools, and which of them are called.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn translate_tools(
    tools: &Value,
    choice: &Value,
    chat: &mut Translation,
) -> Result<(), ApiError> {
    let tools = optional_list("tools", tools)?;
    let (choice, allowed) = chosen(choice)?;
    let callable: Option<HashSet<&String>> = allowed.as_ref().map(|names| names.iter().collect());
    let mut own = Vec::with_capacity(tools.len());
    let mut names = HashSet::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let tool: FlatTool = read_at(&at, tool)?;
        if tool.kind != "function" {
            let reason = "there are no built-in tools here: it must be function";
            return Err(ApiError::field(format!("{at}.type"), reason));
        }
        let Some(name) = tool.name else {
            return Err(ApiError::field(format!("{at}.name"), "it is required"));
        };
        names.insert(name.clone());
        // The model is not told of tools that it must not call.
        if callable.as_ref().is_some_and(|callable| !callable.contains(&name)) {
            continue;
        }
        chat.name(format!("tools[{}]", own.len()), at.clone());
        chat.name(format!("tools[{}].function", own.len()), at);
        let mut function = json!({"name": name, "strict": tool.strict});
        if let Some(description) = tool.description {
            function["description"] = description.into();
        }
        if let Some(parameters) = tool.parameters {
            function["parameters"] = parameters.into();
        }
        own.push(json!({"type": "function", "function": function}));
    }
    for (index, name) in allowed.iter().flatten().enumerate() {
        if !names.contains(name) {
            let at = format!("tool_choice.tools[{index}].name");
            return Err(ApiError::field(at, "tools has no function of this name"));
        }
    }
    chat.set("tools", "tools", if own.is_empty() { Value::Null } else { Value::Array(own) });
    chat.set("tool_choice", "tool_choice", choice);
    chat.name("tool_choice.function", "tool_choice");
    Ok(())
}

/// A chat's `tool_choice`, and the tools that are allowed, if only some are.
fn chosen(choice: &Value) -> Result<(Value, Option<Vec<String>>), ApiError> {
    if !choice.is_object() {
        return Ok((choice.clone(), None));
    }
    match text_at("tool_choice", choice, "type")? {
        "function" => {
            let name = text_at("tool_choice", choice, "name")?;
            Ok((json!({"type": "function", "function": {"name": name}}), None))
        }
        "allowed_tools" => {
            let mode = text_at("tool_choice", choice, "mode")?;
            if !["auto", "required"].contains(&mode) {
                return Err(ApiError::field("tool_choice.mode", "it must be auto or required"));
            }
            let mut allowed = Vec::new();
            for (index, tool) in list_at("tool_choice.tools", &choice["tools"])?.iter().enumerate()
            {
                let at = format!("tool_choice.tools[{index}]");
                if text_at(&at, tool, "type")? != "function" {
                    return Err(ApiError::field(format!("{at}.type"), "it must be function"));
                }
                allowed.push(text_at(&at, tool, "name")?.to_owned());
            }
            Ok((mode.into(), Some(allowed)))
        }
        _ => {
            let reason = "it must be function or allowed_tools: there are no built-in tools here";
            Err(ApiError::field("tool_choice.type", reason))
        }
    }
}
