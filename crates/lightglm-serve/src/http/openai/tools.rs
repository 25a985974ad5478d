//! Tools: declared in a request, called in a reply.

use lightglm_generation::{
    FinishReason, ReasoningStream, ReplyPart, ToolCall, ToolCallEvent, ToolCallStream,
};
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
#[serde(
    untagged,
    expecting = "it must be none, auto, required, or an object of the type function or allowed_tools"
)]
pub(in crate::http) enum ToolChoice {
    /// In a word.
    Mode(ToolMode),
    /// These functions.
    Chosen(ChosenTools),
}

/// Whether tools are called.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum ToolMode {
    /// Never.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Required,
    /// The same, by other servers' name.
    Any,
}

/// A function that must be called, or those that may be.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ChosenTools {
    /// `function`, `allowed_tools`, or a word as above.
    #[serde(rename = "type")]
    #[schema(value_type = ChosenType)]
    kind: String,
    /// The function.
    function: Option<NamedFunction>,
    /// The functions.
    allowed_tools: Option<AllowedTools>,
}

/// The kinds of choices.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "names the kinds in the OpenAPI document")]
enum ChosenType {
    /// One.
    Function,
    /// Some.
    AllowedTools,
    /// None.
    None,
    /// As the model likes.
    Auto,
    /// At least one.
    Required,
    /// The same.
    Any,
}

/// Those of the tools that the model is told of.
#[derive(Deserialize, utoipa::ToSchema)]
struct AllowedTools {
    /// Whether one has to be called.
    mode: ToolMode,
    /// Which.
    #[schema(min_items = 1)]
    tools: Vec<NamedTool>,
}

/// A function by its name.
#[derive(Deserialize, utoipa::ToSchema)]
struct NamedTool {
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

impl ChosenTools {
    /// What it asks for, and for which of the tools; `None` is all. A function that is named so is called once.
    fn resolve(self) -> Result<(ToolMode, Option<ToolNames>), ApiError> {
        let misplaced = |field: &str| {
            let param = format!("tool_choice.{field}");
            Err(ApiError::field(param, "the type of tool_choice is another"))
        };
        match (&*self.kind, self.function, self.allowed_tools) {
            ("function", Some(function), None) => {
                let name = (function.name, "tool_choice.function.name".to_owned());
                Ok((ToolMode::Required, Some(vec![name])))
            }
            ("allowed_tools", None, Some(AllowedTools { mode, tools })) => {
                if tools.is_empty() {
                    let param = "tool_choice.allowed_tools.tools";
                    return Err(ApiError::field(param, "it must have a tool"));
                }
                let at = |index, field| format!("tool_choice.allowed_tools.tools[{index}].{field}");
                let mut names = ToolNames::new();
                for (index, tool) in tools.into_iter().enumerate() {
                    if tool.kind != "function" {
                        return Err(ApiError::field(at(index, "type"), "it must be function"));
                    }
                    names.push((tool.function.name, at(index, "function.name")));
                }
                Ok((mode, Some(names)))
            }
            ("function", None, _) => Err(ApiError::field("tool_choice.function", "it is required")),
            ("allowed_tools", _, None) => {
                Err(ApiError::field("tool_choice.allowed_tools", "it is required"))
            }
            ("allowed_tools", Some(_), _) => misplaced("function"),
            (_, _, Some(_)) => misplaced("allowed_tools"),
            (_, Some(_), _) => misplaced("function"),
            ("none", ..) => Ok((ToolMode::None, None)),
            ("auto", ..) => Ok((ToolMode::Auto, None)),
            ("required" | "any", ..) => Ok((ToolMode::Required, None)),
            _ => Err(ApiError::field("tool_choice.type", "it must be function or allowed_tools")),
        }
    }
}

/// Names of functions, and the fields that they came in.
type ToolNames = Vec<(String, String)>;

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
    /// Where they stand in the request.
    places: Vec<usize>,
}

impl Tools {
    /// Those of these places.
    fn only(&self, places: &[usize]) -> Self {
        let values: Vec<Value> = places.iter().map(|at| self.values[*at].clone()).collect();
        Self {
            names: places.iter().map(|at| self.names[*at].clone()).collect(),
            bytes: values.iter().map(|value| value.to_string().len()).sum(),
            values,
            strict: places.iter().map(|at| self.strict[*at]).collect(),
            places: places.iter().map(|at| self.places[*at]).collect(),
        }
    }

    /// What a constraint is told of a tool; parameters that are missing are any. What of them is not enforced
    /// is added to `told`.
    fn spec(&self, index: usize, told: &mut Vec<String>) -> ToolSpec {
        let mut parameters = match &self.values[index]["function"]["parameters"] {
            Value::Null => Value::Object(Map::new()),
            parameters => parameters.clone(),
        };
        let at = format!("tools[{}]#", self.places[index]);
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
        checked.places.push(index);
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
    /// The names of those that it may call.
    callable: Vec<String>,
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
    let is_named = matches!(&choice, Some(ToolChoice::Chosen(chosen)) if chosen.function.is_some());
    let (mode, names) = match choice {
        None => (ToolMode::Auto, None),
        Some(ToolChoice::Mode(mode)) => (mode, None),
        Some(ToolChoice::Chosen(chosen)) => chosen.resolve()?,
    };
    let parallel = parallel.unwrap_or(true) && !is_named;
    let mut callable: Vec<usize> = (0..tools.names.len()).collect();
    if let Some(names) = &names {
        let find = |(name, param): &(String, String)| {
            let at = tools.names.iter().position(|known| known == name);
            at.ok_or_else(|| ApiError::field(param, "tools has no function of this name"))
        };
        callable = names.iter().map(find).collect::<Result<_, _>>()?;
        callable.sort_unstable();
        callable.dedup();
    }
    let mut not_enforced = Vec::new();
    let (tools, constraint) = match mode {
        // The model is not told of tools that it must not call.
        ToolMode::None => (Tools::default(), None),
        ToolMode::Auto if names.is_none() => (tools, None),
        ToolMode::Auto => (tools.only(&callable), None),
        ToolMode::Required | ToolMode::Any if callable.is_empty() => {
            return Err(ApiError::field("tool_choice", "required needs tools"));
        }
        ToolMode::Required | ToolMode::Any => {
            let specs = callable.iter().map(|index| tools.spec(*index, &mut not_enforced));
            let constraint = Constraint::ToolCall { tools: specs.collect(), parallel };
            (tools, Some(constraint))
        }
    };
    let callable = match &constraint {
        Some(Constraint::ToolCall { tools, .. }) => {
            tools.iter().map(|it| it.name.clone()).collect()
        }
        _ => tools.names.clone(),
    };
    Ok(ToolPlan { tools, callable, constraint, parallel, not_enforced })
}

/// Which calls a reply may have.
#[derive(Default)]
pub(in crate::http) struct Calls {
    names: Vec<String>,
    /// Whether what begins as a call can be nothing else.
    must: bool,
    parallel: bool,
}

impl ToolPlan {
    /// Which calls the reply may have; whether it is held to a grammar, by these tools or otherwise.
    pub(in crate::http) fn calls(&self, is_constrained: bool) -> Calls {
        Calls { names: self.callable.clone(), must: is_constrained, parallel: self.parallel }
    }

    /// Whether there is a tool that the model may call.
    pub(in crate::http) fn may_call(&self) -> bool {
        !self.tools.names.is_empty()
    }

    /// What a constraint is told of the tools that the model may call; what of them is not enforced is added to
    /// `told`.
    pub(super) fn specs(&self, told: &mut Vec<String>) -> Vec<ToolSpec> {
        (0..self.tools.names.len()).map(|index| self.tools.spec(index, told)).collect()
    }
}

/// A piece of a reply.
#[derive(Debug, PartialEq)]
pub(in crate::http) enum Piece {
    /// Thoughts.
    Reasoning(String),
    /// Text.
    Text(String),
    /// A call of this function begins.
    Call(String),
    /// More of its arguments, as the model wrote them.
    Arguments(String),
}

/// Takes thoughts and calls out of a reply while it arrives. The arguments of a call that is a must come as they
/// are written, those of another in one piece, for only its end shows that it is one.
pub(super) struct ReplySplitter {
    reasoning: ReasoningStream,
    /// Kept for its memory; empty between two pushes.
    parts: Vec<ReplyPart>,
    /// `None` where there are no tools: all is text.
    stream: Option<ToolCallStream>,
    must_call: bool,
    parallel: bool,
    calls: usize,
    /// Whether the last call is not complete.
    is_cut: bool,
}

impl ReplySplitter {
    pub(super) fn new(calls: &Calls, thinking: Thinking) -> Self {
        let stream = (!calls.names.is_empty()).then(|| {
            let stream = ToolCallStream::new(&calls.names);
            if calls.must { stream.must_call() } else { stream }
        });
        let (must_call, parallel) = (calls.must, calls.parallel);
        let reasoning = ReasoningStream::new(thinking);
        Self { reasoning, parts: Vec::new(), stream, must_call, parallel, calls: 0, is_cut: false }
    }

    /// Whether the last push was of thoughts, or went on with them.
    pub(super) fn is_thinking(&self) -> bool {
        self.reasoning.is_thinking()
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether there are calls, all of them complete.
    pub(super) fn has_called(&self) -> bool {
        self.calls > 0 && !self.is_cut
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

    /// What was held back, now that nothing follows; a call that the end of the tokens (`Length`) cuts comes as
    /// far as it came.
    pub(super) fn finish(&mut self, reason: FinishReason, pieces: &mut Vec<Piece>) {
        let mut parts = std::mem::take(&mut self.parts);
        self.reasoning.finish(&mut parts);
        self.push_parts(&mut parts, pieces);
        // What must be a call is one, however it ends: its beginning has been told.
        let is_cut = reason == FinishReason::Length || self.must_call;
        let end = if is_cut { ToolCallStream::finish_cut } else { ToolCallStream::finish };
        let events = self.stream.as_mut().map(end).unwrap_or_default();
        self.sort(events, pieces);
    }

    fn sort(&mut self, events: Vec<ToolCallEvent>, pieces: &mut Vec<Piece>) {
        for event in events {
            self.is_cut |= matches!(event, ToolCallEvent::CallCut { .. });
            // Who asked for one call at a time gets the first.
            let is_wanted = self.parallel || self.calls == 0;
            match event {
                ToolCallEvent::Content(text) => pieces.push(Piece::Text(text)),
                ToolCallEvent::CallStarted { name } if self.must_call => {
                    self.calls += 1;
                    pieces.push(Piece::Call(name));
                }
                ToolCallEvent::CallArguments(more) => pieces.push(Piece::Arguments(more)),
                ToolCallEvent::CallFinished(ToolCall { name, raw_arguments, .. })
                | ToolCallEvent::CallCut { name, raw_arguments }
                    if is_wanted && !self.must_call =>
                {
                    self.calls += 1;
                    pieces.push(Piece::Call(name));
                    pieces.push(Piece::Arguments(raw_arguments));
                }
                _ => {}
            }
        }
    }
}
