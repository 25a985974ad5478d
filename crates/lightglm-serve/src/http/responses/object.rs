//! The response as an object.

use lightglm_generation::SamplingParams;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::openai::logprobs::TokenEntry;
use crate::http::openai::usage::Usage;

/// What a response repeats of its request.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) id: String,
    pub(super) instructions: Option<String>,
    pub(super) metadata: Map<String, Value>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) parallel_tool_calls: bool,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) top_logprobs: u64,
    pub(super) tool_choice: Value,
    pub(super) tools: Value,
    pub(super) text: Value,
    pub(super) reasoning: Value,
    pub(super) user: Option<String>,
    pub(super) safety_identifier: Option<String>,
    /// Whether log-probabilities were asked for.
    pub(super) has_logprobs: bool,
}

impl Echo {
    /// The server's defaults, where the request did not say.
    pub(super) fn sampled(&mut self, params: &SamplingParams) {
        (self.temperature, self.top_p) = (written(params.temperature), written(params.top_p));
    }
}

/// A response.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ResponseObject<'a> {
    /// A new one for each request; nothing is stored under it.
    pub(super) id: &'a str,
    /// `response`.
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub(super) status: &'static str,
    /// Seconds since 1970, once it is completed.
    #[schema(required)]
    pub(super) completed_at: Option<u64>,
    /// False.
    pub(super) background: bool,
    /// Why it failed.
    #[schema(required, value_type = Option<Object>)]
    pub(super) error: Option<Value>,
    /// Why it is incomplete: `{"reason": "max_output_tokens"}`.
    #[schema(required, value_type = Option<Object>)]
    pub(super) incomplete_details: Option<Value>,
    /// As in the request.
    #[schema(required)]
    pub(super) instructions: Option<&'a str>,
    /// As in the request.
    #[schema(required)]
    pub(super) max_output_tokens: Option<u64>,
    /// None.
    #[schema(required)]
    pub(super) max_tool_calls: Option<u64>,
    /// Which model answers.
    pub(super) model: &'a str,
    /// Thoughts, messages and calls.
    #[schema(value_type = Vec<Object>)]
    pub(super) output: &'a [Value],
    /// As in the request.
    pub(super) parallel_tool_calls: bool,
    /// None: nothing is stored.
    #[schema(required)]
    pub(super) previous_response_id: Option<&'a str>,
    /// As in the request.
    #[schema(value_type = Object)]
    pub(super) reasoning: &'a Value,
    /// As in the request.
    #[schema(required)]
    pub(super) safety_identifier: Option<&'a str>,
    /// `default`.
    pub(super) service_tier: &'static str,
    /// False.
    pub(super) store: bool,
    /// What was used.
    pub(super) temperature: f64,
    /// As in the request.
    #[schema(value_type = Object)]
    pub(super) text: &'a Value,
    /// As in the request.
    #[schema(value_type = Object)]
    pub(super) tool_choice: &'a Value,
    /// As in the request.
    #[schema(value_type = Vec<Object>)]
    pub(super) tools: &'a Value,
    /// As in the request.
    pub(super) top_logprobs: u64,
    /// What was used.
    pub(super) top_p: f64,
    /// `disabled`.
    pub(super) truncation: &'static str,
    /// What it took; absent until it is over.
    #[schema(required)]
    pub(super) usage: Option<ResponseUsage>,
    /// As in the request.
    #[schema(required)]
    pub(super) user: Option<&'a str>,
    /// As in the request.
    #[schema(value_type = Object)]
    pub(super) metadata: &'a Map<String, Value>,
}

/// The tokens of a response.
#[derive(Serialize, Clone, utoipa::ToSchema)]
pub(super) struct ResponseUsage {
    /// Of the input.
    input_tokens: usize,
    /// About them.
    input_tokens_details: InputTokensDetails,
    /// Of the response.
    output_tokens: usize,
    /// About them.
    output_tokens_details: OutputTokensDetails,
    /// Together.
    total_tokens: usize,
}

/// About the tokens of the input.
#[derive(Serialize, Clone, utoipa::ToSchema)]
struct InputTokensDetails {
    /// Taken from the cache.
    cached_tokens: usize,
    /// Nothing is charged for filling it.
    cache_write_tokens: usize,
}

/// About the tokens of the response.
#[derive(Serialize, Clone, utoipa::ToSchema)]
struct OutputTokensDetails {
    /// Of thoughts.
    reasoning_tokens: usize,
}

impl From<&Usage> for ResponseUsage {
    fn from(usage: &Usage) -> Self {
        let cached_tokens = usage.prompt_tokens_details.cached_tokens;
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails { cached_tokens, cache_write_tokens: 0 },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: usage.reasoning_tokens(),
            },
            total_tokens: usage.total_tokens,
        }
    }
}

/// The log-probabilities of some tokens, as JSON.
pub(super) fn logprob_values(entries: &[TokenEntry]) -> Vec<Value> {
    entries.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect()
}

/// A number as it was written: 0.7 and not what of it is left in 32 bits.
fn written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(number.into())
}
