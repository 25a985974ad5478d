//! `Usage`: the tokens of a request, as OpenAI counts them.

use serde::Serialize;

use crate::engine;

/// The tokens of a request.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct Usage {
    /// Of the prompts.
    prompt_tokens: usize,
    /// Of all replies.
    completion_tokens: usize,
    /// Together.
    total_tokens: usize,
    /// About the prompts.
    prompt_tokens_details: PromptTokensDetails,
}

/// About the tokens of the prompts.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
struct PromptTokensDetails {
    /// Taken from the cache.
    cached_tokens: usize,
}

impl Usage {
    /// Adds a choice; `first` says that it is the first of its prompt, which is counted once.
    pub(in crate::http) fn add(&mut self, usage: engine::Usage, first: bool) {
        if first {
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}
