//! `response_format` and its kin: what a reply must look like.

use lightglm_core::MediaRuns;
use lightglm_generation::LogitsProcessor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::loosen::loosen;
use super::tools::ToolPlan;
use super::unmet::refuse_unmet;
use crate::constraint::Constraint;
use crate::http::body::json_body::{FromJson, read};
use crate::http::choice_stream::ChoicePrompt;
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;
use crate::http::models::ModelState;

/// The fields of chats and completions that say what a reply must look like.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct FormatFields {
    /// What the reply must look like.
    response_format: Option<ResponseFormat>,
    /// A regular expression that the reply must match.
    guided_regex: Option<String>,
    /// A grammar, in Lark's notation, that the reply must follow.
    guided_grammar: Option<String>,
    /// A JSON schema that the reply must follow: the schema, or its text.
    #[schema(value_type = Option<Object>)]
    guided_json: Option<Value>,
    /// Texts, one of which the reply must be.
    guided_choice: Option<Vec<String>>,
    /// The same demands in vLLM's newer form.
    structured_outputs: Option<StructuredOutputs>,
    /// A JSON schema that the reply must follow, as llama.cpp's clients name it.
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
}

/// What a reply must look like: one of these.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct StructuredOutputs {
    /// A JSON schema, or its text.
    #[schema(value_type = Option<Object>)]
    json: Option<Value>,
    /// A regular expression.
    regex: Option<String>,
    /// One of these texts.
    choice: Option<Vec<String>>,
    /// A grammar in Lark's notation.
    grammar: Option<String>,
    /// Any JSON object.
    json_object: Option<bool>,
}

/// A request that takes [`FormatFields`] beside its own; read apart, as
/// [`Sampled`](super::sampling::Sampled) is.
pub(in crate::http) struct Formatted<T> {
    pub(in crate::http) format: FormatFields,
    pub(in crate::http) request: T,
}

impl<T: FromJson> FromJson for Formatted<T> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        refuse_unmet(value)?;
        let request = T::from_json(value)?;
        Ok(Self { format: read(value)?, request })
    }
}

/// What a reply must look like.
#[derive(Deserialize, utoipa::ToSchema)]
struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: FormatType,
    /// The schema of `json_schema`.
    json_schema: Option<JsonSchemaFormat>,
    /// A schema for `json_object`, as several servers take it.
    #[schema(value_type = Option<Object>)]
    schema: Option<Map<String, Value>>,
}

/// The kinds of formats.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum FormatType {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema accepts.
    JsonSchema,
}

/// A schema with a name.
#[derive(Deserialize, utoipa::ToSchema)]
struct JsonSchemaFormat {
    /// A name, which says nothing to this server.
    #[allow(dead_code, reason = "part of the protocol")]
    name: Option<String>,
    /// The schema.
    #[schema(value_type = Object)]
    schema: Map<String, Value>,
    /// Whether what cannot be enforced is refused; otherwise it is dropped, and the header
    /// `x-lightglm-not-enforced` names it.
    strict: Option<bool>,
}

/// A constraint, and the field that asked for it.
pub(in crate::http) struct Demand {
    pub(in crate::http) constraint: Constraint,
    pub(in crate::http) param: &'static str,
    /// Bytes of it.
    pub(in crate::http) size: usize,
    /// What of its schema is not enforced.
    not_enforced: Vec<String>,
}

impl Demand {
    /// What of it is not enforced.
    pub(in crate::http) fn not_enforced(&self) -> &[String] {
        &self.not_enforced
    }

    /// The same, where the reply may be calls of `plan`'s tools instead.
    ///
    /// # Errors
    /// [`ApiError::Field`] where calls cannot be told from what else the reply may be.
    pub(in crate::http) fn or_calls(self, plan: &ToolPlan) -> Result<Self, ApiError> {
        let schema = match self.constraint {
            Constraint::JsonSchema(schema) => schema,
            Constraint::JsonObject => json!({"type": "object"}),
            _ => {
                let reason = "it cannot stand beside tools that may be called";
                return Err(ApiError::field(self.param, reason));
            }
        };
        let mut not_enforced = self.not_enforced;
        let (tools, parallel) = (plan.specs(&mut not_enforced), plan.parallel);
        let opening = String::new();
        let constraint = Constraint::ToolCallOrJson { tools, parallel, opening, schema };
        Ok(Self { constraint, not_enforced, ..self })
    }

    /// Says what stands before a reply that might be calls, which have it not.
    pub(in crate::http) fn open_with(&mut self, said: &str) {
        if let Constraint::ToolCallOrJson { opening, .. } = &mut self.constraint {
            said.clone_into(opening);
        }
    }

    /// For a schema, or the text of one.
    fn schema(
        param: &'static str,
        schema: Value,
        strict: bool,
        limits: &HttpLimits,
    ) -> Result<Self, ApiError> {
        let too_large = || {
            let reason = format!("it is larger than {} bytes", limits.schema_bytes);
            Err(ApiError::field(param, reason))
        };
        let mut schema = match schema {
            Value::String(text) if text.len() > limits.schema_bytes => return too_large(),
            Value::String(text) => serde_json::from_str(&text)
                .map_err(|error| ApiError::field(param, format!("it is no JSON: {error}")))?,
            schema => schema,
        };
        // Before anything is done with it.
        let size = schema.to_string().len();
        if size > limits.schema_bytes {
            return too_large();
        }
        let mut not_enforced = Vec::new();
        loosen(&mut schema, "#", strict, &mut not_enforced);
        Ok(Self { not_enforced, ..Self::of(param, Constraint::JsonSchema(schema), size) })
    }

    fn of(param: &'static str, constraint: Constraint, size: usize) -> Self {
        Self { constraint, param, size, not_enforced: Vec::new() }
    }

    fn regex(param: &'static str, regex: String) -> Self {
        let size = regex.len();
        Self::of(param, Constraint::Regex(regex), size)
    }

    fn grammar(param: &'static str, grammar: String) -> Self {
        let size = grammar.len();
        Self::of(param, Constraint::Lark(grammar), size)
    }

    fn choice(param: &'static str, texts: Vec<String>) -> Result<Self, ApiError> {
        if texts.is_empty() {
            return Err(ApiError::field(param, "it must have a text"));
        }
        let size = texts.iter().map(String::len).sum();
        Ok(Self::of(param, Constraint::Choice(texts), size))
    }

    fn object(param: &'static str) -> Self {
        Self::of(param, Constraint::JsonObject, 0)
    }
}

impl ResponseFormat {
    fn demand(self, limits: &HttpLimits) -> Result<Option<Demand>, ApiError> {
        let misplaced =
            |param, kind: &str| Err(ApiError::field(param, format!("it needs the type {kind}")));
        match (self.kind, self.json_schema, self.schema) {
            (FormatType::Text, None, None) => Ok(None),
            (FormatType::JsonObject, None, None) => Ok(Some(Demand::object("response_format"))),
            (FormatType::JsonObject, None, Some(schema)) => {
                Demand::schema("response_format.schema", Value::Object(schema), false, limits)
                    .map(Some)
            }
            (FormatType::JsonSchema, Some(format), None) => {
                let param = "response_format.json_schema.schema";
                let strict = format.strict == Some(true);
                Demand::schema(param, Value::Object(format.schema), strict, limits).map(Some)
            }
            (FormatType::JsonSchema, None, _) => {
                Err(ApiError::field("response_format.json_schema", "it is required"))
            }
            (_, Some(_), _) if self.kind != FormatType::JsonSchema => {
                misplaced("response_format.json_schema", "json_schema")
            }
            _ => misplaced("response_format.schema", "json_object"),
        }
    }
}

impl StructuredOutputs {
    fn demands(self, limits: &HttpLimits) -> Result<Vec<Demand>, ApiError> {
        let mut demands = Vec::new();
        let json = self
            .json
            .map(|schema| Demand::schema("structured_outputs.json", schema, false, limits));
        demands.extend(json.transpose()?);
        demands.extend(self.regex.map(|it| Demand::regex("structured_outputs.regex", it)));
        let choice = self.choice.map(|texts| Demand::choice("structured_outputs.choice", texts));
        demands.extend(choice.transpose()?);
        demands.extend(self.grammar.map(|it| Demand::grammar("structured_outputs.grammar", it)));
        let object = self.json_object == Some(true);
        demands.extend(object.then(|| Demand::object("structured_outputs.json_object")));
        Ok(demands)
    }
}

impl FormatFields {
    /// The one constraint that a request asks for, if any, by these fields or as a call of its tools.
    ///
    /// # Errors
    /// [`ApiError::Field`] where there are several, or one is too large.
    pub(in crate::http) fn demand(
        self,
        tool_call: Option<Constraint>,
        limits: &HttpLimits,
    ) -> Result<Option<Demand>, ApiError> {
        let mut demands = Vec::new();
        if let Some(format) = self.response_format {
            demands.extend(format.demand(limits)?);
        }
        demands.extend(self.guided_regex.map(|regex| Demand::regex("guided_regex", regex)));
        demands.extend(self.guided_grammar.map(|it| Demand::grammar("guided_grammar", it)));
        for (param, schema) in
            [("guided_json", self.guided_json), ("json_schema", self.json_schema)]
        {
            demands.extend(
                schema.map(|schema| Demand::schema(param, schema, false, limits)).transpose()?,
            );
        }
        let choice = self.guided_choice.map(|texts| Demand::choice("guided_choice", texts));
        demands.extend(choice.transpose()?);
        if let Some(outputs) = self.structured_outputs {
            demands.extend(outputs.demands(limits)?);
        }
        // The sizes of tools were checked one by one.
        demands.extend(tool_call.map(|constraint| Demand::of("tools", constraint, 0)));
        if demands.len() > 1 {
            let reason = format!("it cannot stand beside {}", demands[0].param);
            return Err(ApiError::field(demands[1].param, reason));
        }
        match demands.pop() {
            Some(demand) if demand.size > limits.schema_bytes => {
                let reason = format!("it is larger than {} bytes", limits.schema_bytes);
                Err(ApiError::field(demand.param, reason))
            }
            demand => Ok(demand),
        }
    }
}

/// Bytes of a request's text as [`AppState::work_on_text`] counts them: a grammar is compiled where
/// waiting is fine, however short it is.
pub(in crate::http) fn bytes_to_work_on(demand: Option<&Demand>, text_bytes: usize) -> usize {
    demand.map_or(text_bytes, |_| usize::MAX)
}

/// `n` choices of each prompt, which all meet the demand, if any; call it where waiting is fine.
///
/// # Errors
/// [`ApiError::Field`] where it cannot be met; [`ApiError::Unsupported`] where none can.
pub(in crate::http) fn choice_prompts(
    state: &ModelState,
    demand: Option<&Demand>,
    prompts: Vec<Vec<u32>>,
    n: usize,
) -> Result<Vec<ChoicePrompt>, ApiError> {
    let choices = prompts.len().saturating_mul(n);
    let mut processors = match demand {
        Some(demand) => compile(state, demand, choices)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let mut choice_prompts = Vec::with_capacity(choices);
    for prompt in prompts {
        for seed_offset in 0..n as u64 {
            let processor = processors.next();
            // A choice goes on by nothing but what it was asked for.
            if demand.is_some() && processor.is_none() {
                return Err(ApiError::Internal);
            }
            let processors = processor.into_iter().collect();
            choice_prompts.push(ChoicePrompt {
                prompt: prompt.clone(),
                media: MediaRuns::default(),
                seed_offset,
                processors,
                prompt_logprobs: None,
            });
        }
    }
    Ok(choice_prompts)
}

fn compile(
    state: &ModelState,
    demand: &Demand,
    choices: usize,
) -> Result<Vec<Box<dyn LogitsProcessor>>, ApiError> {
    let Some(constrain) = &state.model.constrain else {
        let reason = "it was built without structured output";
        return Err(ApiError::Unsupported { param: demand.param.into(), reason });
    };
    let compiled = constrain.compile(&demand.constraint, choices);
    compiled.map_err(|error| {
        // Beside a format, tools may be at fault.
        let param = if error.reason.starts_with("tools") { "tools" } else { demand.param };
        ApiError::field(param, error.reason)
    })
}
