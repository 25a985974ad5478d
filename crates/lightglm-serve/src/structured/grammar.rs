//! From a constraint to llguidance's grammar.

use std::fmt::Write;

use lightglm_generation::is_callable;
use llguidance::JsonCompileOptions;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use crate::constraint::{Constraint, ToolSpec};
use crate::structured::error::StructuredError;
use crate::structured::limits::StructuredLimits;
use crate::structured::schema_check::{check_schema, json_bytes};
use crate::structured::schema_work::SchemaWork;

/// White space between JSON's tokens: a space, or a new line and what it is indented by. No more, because
/// a small model that has nothing to say fills its reply with empty lines where it may.
const WHITE_SPACE: &str = r"(\x20|\x0A\x20{0,16})";

/// Escapes in JSON strings. Without `\u`, which would give every key a second spelling, and a
/// property that the schema knows could be written past it.
const ESCAPES: &str = "nrbtf\\\"";

/// The grammar of a constraint, and the field to blame where it does not compile.
pub(crate) fn grammar(
    constraint: &Constraint,
    limits: &StructuredLimits,
) -> Result<(TopLevelGrammar, &'static str), StructuredError> {
    Ok(match constraint {
        Constraint::JsonSchema(schema) => {
            check_schema(schema, "schema", limits, &mut SchemaWork::default())?;
            let schema = prepared(schema, "schema")?;
            (TopLevelGrammar::from_json_schema(schema), "schema")
        }
        Constraint::JsonObject => {
            let schema = prepared(&json!({ "type": "object" }), "schema")?;
            (TopLevelGrammar::from_json_schema(schema), "schema")
        }
        Constraint::Regex(regex) => {
            (TopLevelGrammar::from_regex(checked_regex(regex, limits)?), "regex")
        }
        Constraint::Lark(lark) => {
            check_lark(lark, limits)?;
            (TopLevelGrammar::from_lark(lark.clone()), "lark")
        }
        Constraint::Choice(choices) => (choice_grammar(choices, limits)?, "choice"),
        Constraint::ToolCall { tools, parallel } => {
            (tool_grammar(tools, *parallel, None, limits)?, "tools")
        }
        Constraint::ToolCallOrJson { tools, parallel, opening, schema } => {
            check_schema(schema, "schema", limits, &mut SchemaWork::default())?;
            let instead = Some((&**opening, prepared(schema, "schema")?));
            (tool_grammar(tools, *parallel, instead, limits)?, "tools")
        }
    })
}

/// The grammar of one tool's arguments alone, to find out which of several is refused.
pub(crate) fn arguments_grammar(
    tool: &ToolSpec,
    field: &str,
) -> Result<TopLevelGrammar, StructuredError> {
    Ok(TopLevelGrammar::from_json_schema(arguments_schema(tool, field)?))
}

/// The field of a tool's schema.
pub(crate) fn parameters_field(index: usize) -> String {
    format!("tools[{index}].parameters")
}

/// A schema with the options it is compiled by, in the place of any that came with it.
fn prepared(schema: &Value, field: &str) -> Result<Value, StructuredError> {
    let refused = |reason: &str| StructuredError::Refused {
        field: field.to_owned(),
        reason: reason.to_owned(),
    };
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        Value::Bool(false) => return Err(refused("the schema `false` accepts nothing")),
        _ => return Err(refused("a schema is an object or a boolean")),
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITE_SPACE.to_owned()),
        json_allowed_escapes: Some(ESCAPES.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

fn checked_regex<'a>(
    regex: &'a str,
    limits: &StructuredLimits,
) -> Result<&'a str, StructuredError> {
    let field = || "regex".to_owned();
    if regex.len() > limits.regex_bytes {
        let (limit, actual) = (limits.regex_bytes, regex.len());
        return Err(StructuredError::TooLarge { field: field(), unit: "bytes", limit, actual });
    }
    let backslashes = |text: &str| text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes(regex) % 2 == 1 {
        let reason = "ends in the middle of an escape sequence".to_owned();
        return Err(StructuredError::Refused { field: field(), reason });
    }
    // The whole text is matched anyway, and anchors are what llguidance does not know.
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let inner = regex.strip_suffix('$').filter(|inner| backslashes(inner) % 2 == 0);
    let regex = inner.unwrap_or(regex);
    if regex.is_empty() { Err(StructuredError::Empty { field: field() }) } else { Ok(regex) }
}

fn check_lark(lark: &str, limits: &StructuredLimits) -> Result<(), StructuredError> {
    let field = "lark";
    if lark.len() > limits.lark_bytes {
        let (limit, actual) = (limits.lark_bytes, lark.len());
        return Err(StructuredError::TooLarge {
            field: field.into(),
            unit: "bytes",
            limit,
            actual,
        });
    }
    if lark.trim().is_empty() {
        return Err(StructuredError::Empty { field: field.into() });
    }
    // Those in texts and comments count, too: who needs many of them has another way to write them.
    let (actual, limit) = (lark.matches('&').count(), limits.lark_intersections);
    if actual > limit {
        let (field, unit) = (field.into(), "intersections");
        return Err(StructuredError::TooLarge { field, unit, limit, actual });
    }
    // Schemas inside the grammar. What is no JSON is left to the compiler.
    let mut work = SchemaWork::default();
    for (start, mark) in lark.match_indices("%json") {
        let text = &lark[start + mark.len()..];
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        if let Some(Ok(schema)) = values.next() {
            check_schema(&schema, field, limits, &mut work)?;
        }
    }
    Ok(())
}

fn choice_grammar(
    choices: &[String],
    limits: &StructuredLimits,
) -> Result<TopLevelGrammar, StructuredError> {
    let bytes: usize = choices.iter().map(|choice| choice.len() + 1).sum();
    if bytes > limits.choice_bytes {
        let (field, limit) = ("choice".to_owned(), limits.choice_bytes);
        return Err(StructuredError::TooLarge { field, unit: "bytes", limit, actual: bytes });
    }
    if let Some(index) = choices.iter().position(String::is_empty) {
        return Err(StructuredError::Empty { field: format!("choice[{index}]") });
    }
    if choices.is_empty() {
        return Err(StructuredError::Empty { field: "choice".to_owned() });
    }
    let alternatives: Vec<String> = choices.iter().map(|choice| escaped(choice)).collect();
    // One terminal: the end of a choice may be the beginning of another.
    let lark = format!("start: CHOICE\nCHOICE: /{}/", alternatives.join("/ | /"));
    Ok(TopLevelGrammar::from_lark(lark))
}

/// `name`, a line break and the arguments; once, or on line after line. `instead` of calls there may be an
/// opening and what a schema accepts.
fn tool_grammar(
    tools: &[ToolSpec],
    parallel: bool,
    instead: Option<(&str, Value)>,
    limits: &StructuredLimits,
) -> Result<TopLevelGrammar, StructuredError> {
    check_tools(tools, limits)?;
    let calls = if parallel { r"calls: call (/\n/ call)*" } else { "calls: call" };
    let mut lark = match &instead {
        None => String::from("start: calls"),
        Some(("", _)) => String::from("start: calls | @reply"),
        Some((opening, _)) => format!("start: calls | /{}/ @reply", escaped(opening)),
    };
    let _ = write!(lark, "\n{calls}");
    let mut schemas = Vec::with_capacity(tools.len());
    let calls: Vec<String> = (0..tools.len()).map(|index| format!("call{index}")).collect();
    // Writing to a string does not fail.
    let _ = write!(lark, "\ncall: {}", calls.join(" | "));
    for (index, tool) in tools.iter().enumerate() {
        let _ = write!(lark, "\ncall{index}: /{}\\n/ @arguments{index}", escaped(&tool.name));
        schemas.push(GrammarWithLexer {
            name: Some(format!("arguments{index}")),
            json_schema: Some(arguments_schema(tool, &parameters_field(index))?),
            lark_grammar: None,
        });
    }
    schemas.extend(instead.map(|(_, schema)| GrammarWithLexer {
        name: Some("reply".to_owned()),
        json_schema: Some(schema),
        lark_grammar: None,
    }));
    let mut grammar = TopLevelGrammar::from_lark(lark);
    grammar.grammars.extend(schemas);
    Ok(grammar)
}

fn check_tools(tools: &[ToolSpec], limits: &StructuredLimits) -> Result<(), StructuredError> {
    let too_large = |field: String, unit, limit, actual| {
        Err(StructuredError::TooLarge { field, unit, limit, actual })
    };
    if tools.is_empty() {
        return Err(StructuredError::Empty { field: "tools".to_owned() });
    }
    if tools.len() > limits.tools {
        return too_large("tools".to_owned(), "tools", limits.tools, tools.len());
    }
    // Before anything else is looked at.
    let mut bytes = 0usize;
    for tool in tools {
        bytes += json_bytes(&tool.parameters, limits.schema_bytes);
        if bytes > limits.schema_bytes {
            return too_large("tools".to_owned(), "bytes of schemas", limits.schema_bytes, bytes);
        }
    }
    let mut work = SchemaWork::default();
    for (index, tool) in tools.iter().enumerate() {
        let field = || format!("tools[{index}].name");
        let name = || tool.name.clone();
        if tool.name.len() > limits.tool_name_bytes {
            return too_large(field(), "bytes", limits.tool_name_bytes, tool.name.len());
        }
        if let Some(reason) = why_not_callable(&tool.name) {
            return Err(StructuredError::ToolName { field: field(), name: name(), reason });
        }
        if tools[..index].iter().any(|other| other.name == tool.name) {
            let reason = "another tool has the same name";
            return Err(StructuredError::ToolName { field: field(), name: name(), reason });
        }
        check_schema(&tool.parameters, &parameters_field(index), limits, &mut work)?;
    }
    Ok(())
}

/// What is wrong with a name that is not [callable](is_callable), or that nobody can read.
fn why_not_callable(name: &str) -> Option<&'static str> {
    if !is_callable(name) {
        Some("it is empty, or has white space or one of {}[]\":, in it")
    } else if name.contains(char::is_control) {
        Some("it has control characters in it")
    } else {
        None
    }
}

/// A tool's schema, which accepts objects alone.
fn arguments_schema(tool: &ToolSpec, field: &str) -> Result<Value, StructuredError> {
    let not_an_object = || StructuredError::NotAnObject { field: field.to_owned() };
    let mut schema = prepared(&tool.parameters, field)?;
    let is_object = match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    };
    match &mut schema {
        Value::Object(fields) if is_object => {
            fields.insert("type".to_owned(), json!("object"));
            Ok(schema)
        }
        _ => Err(not_an_object()),
    }
}

/// A text as a regular expression that matches it, with nothing in it that Lark could take for
/// something else.
fn escaped(text: &str) -> String {
    let mut regex = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            regex.push(character);
        } else {
            let _ = write!(regex, "\\x{{{:x}}}", u32::from(character));
        }
    }
    regex
}
