//! `Usage`: the tokens of a request, as OpenAI counts them.

use serde::Serialize;

use crate::engine;

/// The tokens of a request.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct Usage {
    /// Of the prompts.
    pub(in crate::http) prompt_tokens: usize,
    /// Of all replies.
    pub(in crate::http) completion_tokens: usize,
    /// Together.
    pub(in crate::http) total_tokens: usize,
    /// About the prompts.
    pub(in crate::http) prompt_tokens_details: PromptTokensDetails,
    /// About the replies, where there are thoughts in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) completion_tokens_details: Option<CompletionTokensDetails>,
}

/// About the tokens of the replies.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct CompletionTokensDetails {
    /// Of thoughts, the tag that ends them included.
    pub(in crate::http) reasoning_tokens: usize,
}

/// About the tokens of the prompts.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct PromptTokensDetails {
    /// Taken from the cache.
    pub(in crate::http) cached_tokens: usize,
}

impl Usage {
    /// That of a reply that begins with thoughts, if so; another one's may yet turn out to.
    pub(in crate::http) fn of_thinking(thinks: bool) -> Self {
        let completion_tokens_details = thinks.then(CompletionTokensDetails::default);
        Self { completion_tokens_details, ..Self::default() }
    }

    /// Counts a token of thoughts.
    pub(in crate::http) fn add_reasoning_token(&mut self) {
        self.completion_tokens_details.get_or_insert_default().reasoning_tokens += 1;
    }

    /// Tokens of thoughts.
    pub(in crate::http) fn reasoning_tokens(&self) -> usize {
        self.completion_tokens_details.as_ref().map_or(0, |details| details.reasoning_tokens)
    }

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
