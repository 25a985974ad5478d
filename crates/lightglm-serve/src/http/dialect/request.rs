//! Reading a dialect's request, with errors that name the place.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::body::json_body::read;
use crate::http::error::ApiError;

/// A field that is not done here, what is said of it, and a value (a text, or a number as one) that turns it off
/// beside null, false, "", [], {} and 0, if any.
pub(in crate::http) type Refused = (&'static str, &'static str, Option<&'static str>);

/// Fields of a chat that change its reply, and what turns them off: what a dialect does not have it refuses, for
/// they would be ignored.
const CHATS: [(&str, Option<&str>); 42] = [
    ("messages", None),
    ("max_tokens", None),
    ("max_completion_tokens", None),
    ("min_tokens", None),
    ("n", Some("1")),
    ("temperature", None),
    ("top_p", None),
    ("top_k", None),
    ("min_p", None),
    ("stop", None),
    ("stop_token_ids", None),
    ("ignore_eos", None),
    ("seed", None),
    ("frequency_penalty", None),
    ("presence_penalty", None),
    ("repetition_penalty", Some("1")),
    ("dry_multiplier", None),
    ("dry_base", None),
    ("dry_allowed_length", None),
    ("loop_tokens", None),
    ("logit_bias", None),
    ("logprobs", None),
    ("top_logprobs", None),
    ("response_format", None),
    ("guided_json", None),
    ("guided_regex", None),
    ("guided_grammar", None),
    ("guided_choice", None),
    ("structured_outputs", None),
    ("json_schema", None),
    ("reasoning_effort", None),
    ("enable_thinking", None),
    ("thinking", None),
    ("chat_template_kwargs", None),
    ("system", None),
    ("tool_choice", Some("auto")),
    ("parallel_tool_calls", Some("true")),
    ("thinking_budget", None),
    ("thinking_token_budget", None),
    ("continue_final_message", None),
    ("add_generation_prompt", Some("true")),
    ("priority", None),
];

/// Fields of which 0 and false ask for something, too.
const DEMANDS: [&str; 8] = [
    "temperature",
    "top_p",
    "seed",
    "enable_thinking",
    "parallel_tool_calls",
    "thinking_budget",
    "thinking_token_budget",
    "add_generation_prompt",
];

/// Refuses fields of a chat that the dialect, whose `own` they are not, would ignore.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn refuse_foreign(request: &Value, own: &[&str]) -> Result<(), ApiError> {
    let foreign = CHATS.into_iter().filter(|(field, _)| !own.contains(field));
    let reason = "this API has no such field";
    let refused: Vec<Refused> = foreign.map(|(field, off)| (field, reason, off)).collect();
    refuse("", request, &refused)
}

/// Refuses what a request asks for that is not done here.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn refuse(
    at: &str,
    request: &Value,
    refused: &[Refused],
) -> Result<(), ApiError> {
    for (field, reason, off) in refused {
        let asks = match &request[*field] {
            Value::Null => false,
            Value::Bool(false) => DEMANDS.contains(field),
            Value::Bool(true) => *off != Some("true"),
            Value::Number(_) if DEMANDS.contains(field) => true,
            Value::Number(number) => {
                let off = off.and_then(|off| off.parse().ok());
                number.as_f64() != Some(0.0) && number.as_f64() != off.or(Some(0.0))
            }
            Value::String(text) => !text.is_empty() && Some(text.as_str()) != *off,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
        if asks {
            return Err(ApiError::field(format!("{at}{field}"), *reason));
        }
    }
    Ok(())
}

/// Reads the object at a place of a request.
///
/// # Errors
/// [`ApiError::Field`] with the whole path of what is wrong.
pub(in crate::http) fn read_at<T: DeserializeOwned>(
    at: &str,
    value: &Value,
) -> Result<T, ApiError> {
    // serde takes a list for a struct, field by field.
    if !value.is_object() {
        return Err(ApiError::field(at, "it must be an object"));
    }
    read(value).map_err(|error| match error {
        ApiError::Field { param, reason } => ApiError::field(format!("{at}.{param}"), reason),
        ApiError::Json { reason } => ApiError::field(at, reason),
        other => other,
    })
}

/// The list at a place of a request.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn list_at<'a>(at: &str, value: &'a Value) -> Result<&'a [Value], ApiError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| ApiError::field(at, "it must be a list"))
}

/// The string `field` of the object at a place.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn text_at<'a>(
    at: &str,
    object: &'a Value,
    field: &str,
) -> Result<&'a str, ApiError> {
    match &object[field] {
        Value::String(text) => Ok(text),
        Value::Null => Err(ApiError::field(format!("{at}.{field}"), "it is required")),
        _ => Err(ApiError::field(format!("{at}.{field}"), "it must be a string")),
    }
}

/// The text of a string, or of a list of parts of the kinds `kinds` (a kind, and the field of its text), which are
/// lines.
///
/// # Errors
/// [`ApiError::Field`] where a part is of another kind.
pub(in crate::http) fn joined_texts(
    at: &str,
    content: &Value,
    kinds: &[(&str, &str)],
) -> Result<String, ApiError> {
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let Some(parts) = content.as_array() else {
        return Err(ApiError::field(at, "it must be a string or a list of parts"));
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let kind = text_at(&at, part, "type")?;
        let Some((_, field)) = kinds.iter().find(|(known, _)| *known == kind) else {
            let names: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
            let reason =
                format!("this model reads text alone: parts of the type {}", names.join(", "));
            return Err(ApiError::field(format!("{at}.type"), reason));
        };
        texts.push(text_at(&at, part, field)?);
    }
    Ok(texts.join("\n"))
}
