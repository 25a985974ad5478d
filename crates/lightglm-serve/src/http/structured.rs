//! `Structured`: [`Constrain`] by way of [`structured`](crate::structured).

use lightglm_generation::LogitsProcessor;
use serde_json::{Map, Value};

use super::constrain::{Constrain, ConstrainError, Constraint};
use crate::structured::{self, GrammarVocabulary, StructuredLimits, ToolSpec, compile};

/// Output that follows what a request asks for, over a model's vocabulary.
pub struct Structured {
    vocabulary: GrammarVocabulary,
    limits: StructuredLimits,
}

impl Structured {
    /// For a model of `vocabulary`, within `limits`.
    pub fn new(vocabulary: GrammarVocabulary, limits: StructuredLimits) -> Self {
        Self { vocabulary, limits }
    }
}

impl Constrain for Structured {
    fn compile(&self, constraint: &Constraint) -> Result<Box<dyn LogitsProcessor>, ConstrainError> {
        let constraint = match constraint {
            Constraint::JsonObject => structured::Constraint::JsonObject,
            Constraint::JsonSchema(schema) => structured::Constraint::JsonSchema(schema.clone()),
            Constraint::Regex(regex) => structured::Constraint::Regex(regex.clone()),
            Constraint::Lark(grammar) => structured::Constraint::Lark(grammar.clone()),
            Constraint::ToolCall { tools, parallel } => structured::Constraint::ToolCall {
                tools: tools.iter().map(spec).collect(),
                parallel: *parallel,
            },
        };
        compile(&constraint, &self.vocabulary, &self.limits).map_err(|error| {
            let reason = error.to_string();
            // The request's own name of the field is known to the caller; of tools it says which.
            let named = error.field().filter(|field| !field.starts_with("tools"));
            let rest = named.and_then(|field| reason.strip_prefix(field)?.strip_prefix(": "));
            let reason = rest.map_or(reason.clone(), str::to_owned);
            ConstrainError { path: None, reason }
        })
    }
}

/// OpenAI's tool object in short; what is missing there takes anything.
fn spec(tool: &Value) -> ToolSpec {
    let function = &tool["function"];
    let parameters = match &function["parameters"] {
        Value::Null => Value::Object(Map::new()),
        parameters => parameters.clone(),
    };
    ToolSpec { name: function["name"].as_str().unwrap_or_default().to_owned(), parameters }
}
