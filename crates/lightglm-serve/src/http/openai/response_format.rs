//! `response_format` and its kin: what a reply must look like.

use lightglm_generation::LogitsProcessor;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::constraint::Constraint;
use crate::http::choice_stream::ChoicePrompt;
use crate::http::config::HttpLimits;
use crate::http::error::ApiError;
use crate::http::json_body::{FromJson, read};
use crate::http::state::AppState;

/// The fields of chats and completions that say what a reply must look like.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct FormatFields {
    /// What the reply must look like.
    response_format: Option<ResponseFormat>,
    /// A regular expression that the reply must match.
    guided_regex: Option<String>,
    /// A grammar, in Lark's notation, that the reply must follow.
    guided_grammar: Option<String>,
}

/// A request that takes [`FormatFields`] beside its own; read apart, as
/// [`Sampled`](super::sampling::Sampled) is.
pub(in crate::http) struct Formatted<T> {
    pub(in crate::http) format: FormatFields,
    pub(in crate::http) request: T,
}

impl<T: FromJson> FromJson for Formatted<T> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
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
    /// Replies always follow the schema.
    #[allow(dead_code, reason = "part of the protocol")]
    strict: Option<bool>,
}

/// A constraint, and the field that asked for it.
pub(in crate::http) struct Demand {
    pub(in crate::http) constraint: Constraint,
    pub(in crate::http) param: &'static str,
    /// Bytes of it.
    pub(in crate::http) size: usize,
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
        match self.response_format.map(|format| (format.kind, format.json_schema)) {
            None | Some((FormatType::Text, _)) => {}
            Some((FormatType::JsonObject, _)) => demands.push(Demand {
                constraint: Constraint::JsonObject,
                param: "response_format",
                size: 0,
            }),
            Some((FormatType::JsonSchema, None)) => {
                return Err(ApiError::field("response_format.json_schema", "it is required"));
            }
            Some((FormatType::JsonSchema, Some(format))) => {
                let schema = Value::Object(format.schema);
                demands.push(Demand {
                    size: schema.to_string().len(),
                    constraint: Constraint::JsonSchema(schema),
                    param: "response_format.json_schema.schema",
                });
            }
        }
        demands.extend(self.guided_regex.map(|regex| Demand {
            size: regex.len(),
            constraint: Constraint::Regex(regex),
            param: "guided_regex",
        }));
        demands.extend(self.guided_grammar.map(|grammar| Demand {
            size: grammar.len(),
            constraint: Constraint::Lark(grammar),
            param: "guided_grammar",
        }));
        // The sizes of tools were checked one by one.
        demands.extend(tool_call.map(|constraint| Demand { constraint, param: "tools", size: 0 }));
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
    state: &AppState,
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
            choice_prompts.push(ChoicePrompt { prompt: prompt.clone(), seed_offset, processors });
        }
    }
    Ok(choice_prompts)
}

fn compile(
    state: &AppState,
    demand: &Demand,
    choices: usize,
) -> Result<Vec<Box<dyn LogitsProcessor>>, ApiError> {
    let Some(constrain) = &state.constrain else {
        let reason = "it was built without structured output";
        return Err(ApiError::Unsupported { param: demand.param.into(), reason });
    };
    let compiled = constrain.compile(&demand.constraint, choices);
    compiled.map_err(|error| ApiError::field(demand.param, error.reason))
}
