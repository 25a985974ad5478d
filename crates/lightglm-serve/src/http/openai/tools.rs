//! Tools: declared in a request, called in a reply.

use lightglm_generation::{ReasoningStream, ReplyPart, ToolCallEvent, ToolCallStream};
use lightglm_text::Thinking;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::loosen::loosen;
use crate::constraint::{Constraint, ToolSpec};
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;

/// Characters of a function's name.
pub(super) const LONGEST_NAME: usize = 64;

/// A tool.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    #[schema(value_type = FunctionType)]
    kind: String,
    /// The function.
    function: ToolFunction,
}

/// The kinds of tools there are.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "names the only kind in the OpenAPI document")]
enum FunctionType {
    /// A function.
    Function,
}

/// A function that the model may call.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
struct ToolFunction {
    /// Its name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// A JSON schema of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Whether what of the schema cannot be enforced is refused where a call is a must; otherwise it is dropped,
    /// and the header `x-lightglm-not-enforced` names it.
    #[serde(skip_serializing)]
    strict: Option<bool>,
}

/// Whether and which tools are called.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "it must be none, auto, required, or a function's name in an object")]
pub(in crate::http) enum ToolChoice {
    /// In a word.
    Mode(ToolMode),
    /// This function.
    Named(NamedTool),
}

/// Whether tools are called.
#[derive(Deserialize, Clone, Copy, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum ToolMode {
    /// Never.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Required,
}

/// A function that must be called.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct NamedTool {
    /// `function`.
    #[serde(rename = "type")]
    #[schema(value_type = FunctionType)]
    kind: String,
    /// The function.
    function: NamedFunction,
}

/// A function's name.
#[derive(Deserialize, utoipa::ToSchema)]
struct NamedFunction {
    /// The name.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
}

/// Tools that were checked.
#[derive(Default)]
pub(in crate::http) struct Tools {
    pub(in crate::http) names: Vec<String>,
    /// OpenAI's objects, for the template.
    pub(in crate::http) values: Vec<Value>,
    /// Bytes of their text, which the template writes into the prompt.
    pub(in crate::http) bytes: usize,
    /// Which are strict.
    strict: Vec<bool>,
}

impl Tools {
    /// What a constraint is told of a tool; parameters that are missing are any. What of them is not enforced
    /// is added to `told`.
    fn spec(&self, index: usize, told: &mut Vec<String>) -> ToolSpec {
        let mut parameters = match &self.values[index]["function"]["parameters"] {
            Value::Null => Value::Object(Map::new()),
            parameters => parameters.clone(),
        };
        let at = format!("tools[{index}]#");
        loosen(&mut parameters, &at, self.strict[index], told);
        ToolSpec { name: self.names[index].clone(), parameters }
    }
}

/// Checks names and sizes.
///
/// # Errors
/// [`ApiError::Field`].
pub(in crate::http) fn checked(
    tools: Option<Vec<Tool>>,
    limits: &HttpLimits,
) -> Result<Tools, ApiError> {
    let tools = tools.unwrap_or_default();
    if tools.len() > limits.tools {
        return Err(ApiError::field(
            "tools",
            format!("it must have at most {} tools", limits.tools),
        ));
    }
    let mut checked = Tools::default();
    for (index, tool) in tools.into_iter().enumerate() {
        let field = |name: &str, reason: String| {
            Err(ApiError::field(format!("tools[{index}].{name}"), reason))
        };
        if tool.kind != "function" {
            return field("type", "it must be function".into());
        }
        let name = &tool.function.name;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(known) {
            let reason = format!("it must be 1 to {LONGEST_NAME} of A-Z, a-z, 0-9, '_', '-'");
            return field("function.name", reason);
        }
        if checked.names.contains(name) {
            return field("function.name", "another tool has this name".into());
        }
        let value = json!({"type": "function", "function": &tool.function});
        let bytes = value.to_string().len();
        if bytes > limits.schema_bytes {
            return field("function", format!("it is larger than {} bytes", limits.schema_bytes));
        }
        checked.strict.push(tool.function.strict == Some(true));
        checked.names.push(tool.function.name);
        checked.values.push(value);
        checked.bytes += bytes;
    }
    Ok(checked)
}

/// What a request's tools mean for its reply.
pub(in crate::http) struct ToolPlan {
    /// Those that the model is told of.
    pub(in crate::http) tools: Tools,
    /// Present where a call is a must.
    pub(in crate::http) constraint: Option<Constraint>,
    /// Whether a reply may have more than one call.
    pub(in crate::http) parallel: bool,
    /// What of the tools' schemas is not enforced where a call is a must.
    pub(in crate::http) not_enforced: Vec<String>,
}

/// Applies `tool_choice`.
///
/// # Errors
/// [`ApiError::Field`] where it asks for tools that are not there.
pub(in crate::http) fn plan(
    tools: Tools,
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
) -> Result<ToolPlan, ApiError> {
    let parallel = parallel.unwrap_or(true);
    let free = |tools| ToolPlan { tools, constraint: None, parallel, not_enforced: Vec::new() };
    let mut not_enforced = Vec::new();
    match choice {
        // The model is not told of tools that it must not call.
        Some(ToolChoice::Mode(ToolMode::None)) => Ok(free(Tools::default())),
        None | Some(ToolChoice::Mode(ToolMode::Auto)) => Ok(free(tools)),
        Some(ToolChoice::Mode(ToolMode::Required)) if tools.names.is_empty() => {
            Err(ApiError::field("tool_choice", "required needs tools"))
        }
        Some(ToolChoice::Mode(ToolMode::Required)) => {
            let specs = (0..tools.names.len()).map(|index| tools.spec(index, &mut not_enforced));
            let constraint = Constraint::ToolCall { tools: specs.collect(), parallel };
            Ok(ToolPlan { tools, constraint: Some(constraint), parallel, not_enforced })
        }
        Some(ToolChoice::Named(named)) if named.kind != "function" => {
            Err(ApiError::field("tool_choice.type", "it must be function"))
        }
        Some(ToolChoice::Named(named)) => {
            let at = tools.names.iter().position(|name| *name == named.function.name);
            let Some(at) = at else {
                let reason = "tools has no function of this name";
                return Err(ApiError::field("tool_choice.function.name", reason));
            };
            let spec = tools.spec(at, &mut not_enforced);
            let constraint = Constraint::ToolCall { tools: vec![spec], parallel: false };
            Ok(ToolPlan { tools, constraint: Some(constraint), parallel: false, not_enforced })
        }
    }
}

/// A piece of a reply.
#[derive(Debug, PartialEq)]
pub(in crate::http) enum Piece {
    /// Thoughts.
    Reasoning(String),
    /// Text.
    Text(String),
    /// A call: the function's name and its arguments, as the model wrote them.
    Call { name: String, arguments: String },
}

/// Takes thoughts and calls out of a reply while it arrives. A call comes in one piece, for only its end
/// shows that it is one.
pub(super) struct ReplySplitter {
    reasoning: ReasoningStream,
    /// Kept for its memory; empty between two pushes.
    parts: Vec<ReplyPart>,
    /// `None` where there are no tools: all is text.
    stream: Option<ToolCallStream>,
    parallel: bool,
    calls: usize,
}

impl ReplySplitter {
    pub(super) fn new(names: &[String], parallel: bool, thinking: Thinking) -> Self {
        let stream = (!names.is_empty()).then(|| ToolCallStream::new(names));
        let reasoning = ReasoningStream::new(thinking);
        Self { reasoning, parts: Vec::new(), stream, parallel, calls: 0 }
    }

    /// Whether the last push was of thoughts, or went on with them.
    pub(super) fn is_thinking(&self) -> bool {
        self.reasoning.is_thinking()
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Takes more of the reply; what is sure is added to `pieces`.
    pub(super) fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut parts = std::mem::take(&mut self.parts);
        self.reasoning.push(text, &mut parts);
        self.push_parts(&mut parts, pieces);
        self.parts = parts;
    }

    fn push_parts(&mut self, parts: &mut Vec<ReplyPart>, pieces: &mut Vec<Piece>) {
        for part in parts.drain(..) {
            match part {
                ReplyPart::Reasoning(text) => pieces.push(Piece::Reasoning(text)),
                ReplyPart::Content(text) => self.push_content(text, pieces),
            }
        }
    }

    fn push_content(&mut self, text: String, pieces: &mut Vec<Piece>) {
        match &mut self.stream {
            Some(stream) => {
                let events = stream.push(&text);
                self.sort(events, pieces);
            }
            None if text.is_empty() => {}
            None => pieces.push(Piece::Text(text)),
        }
    }

    /// What was held back, now that nothing follows.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let mut parts = std::mem::take(&mut self.parts);
        self.reasoning.finish(&mut parts);
        self.push_parts(&mut parts, pieces);
        let events = self.stream.as_mut().map(ToolCallStream::finish).unwrap_or_default();
        self.sort(events, pieces);
    }

    fn sort(&mut self, events: Vec<ToolCallEvent>, pieces: &mut Vec<Piece>) {
        for event in events {
            match event {
                ToolCallEvent::Content(text) => pieces.push(Piece::Text(text)),
                // Who asked for one call at a time gets the first.
                ToolCallEvent::CallFinished(call) if self.parallel || self.calls == 0 => {
                    self.calls += 1;
                    let (name, arguments) = (call.name, call.raw_arguments);
                    pieces.push(Piece::Call { name, arguments });
                }
                _ => {}
            }
        }
    }
}
