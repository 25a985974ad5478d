//! `EngineRequest`: what to generate, for whom.

use std::time::Instant;

use lightglm_core::MediaRuns;
use lightglm_generation::{CancelToken, LogitsProcessor, SamplingParams};
use lightglm_text::Detokenize;

/// A prompt, everything that decides what follows it, and its place in the queue.
///
/// What is generated depends on model, prompt, parameters and processors alone: not on the requests
/// that run beside it, nor on when it was interrupted.
pub struct EngineRequest {
    /// Which model answers: an adapter's name; the base model where `None`.
    pub model: Option<String>,
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Pictures and recordings among them.
    pub media: MediaRuns,
    /// How tokens are chosen, and when to stop.
    pub params: SamplingParams,
    /// Whether the prompt's own tokens are scored ([`Event::Prompt`](super::Event::Prompt)), with so many
    /// alternatives each. Such a prompt is run whole: nothing of it is taken from the cache.
    pub prompt_logprobs: Option<usize>,
    /// The tokens that end a reply.
    pub eos_token_ids: Vec<u32>,
    /// Turns tokens into text.
    pub detokenizer: Box<dyn Detokenize + Send>,
    /// Act on the logits before temperature and truncation: grammars.
    pub processors: Vec<Box<dyn LogitsProcessor>>,
    /// Whose request it is: keys share the machine fairly.
    pub key: String,
    /// With whom keys and values are shared: only requests of the same salt find each other's prefixes; the
    /// empty one is everybody's. Media of different epochs need different ones
    /// ([`epoch_salt`](lightglm_generation::media::epoch_salt)). It changes what is computed again, never what comes out.
    pub cache_salt: String,
    /// Higher runs first; fairness is among equals.
    pub priority: i32,
    /// When it is given up, wherever it stands then.
    pub deadline: Option<Instant>,
    /// Ends it from another thread; its blocks are free within one step.
    pub cancel: CancelToken,
}

impl EngineRequest {
    /// A request to the base model: nobody's, of priority 0, without a deadline.
    pub fn new(
        prompt: Vec<u32>,
        params: SamplingParams,
        eos_token_ids: Vec<u32>,
        detokenizer: Box<dyn Detokenize + Send>,
    ) -> Self {
        Self {
            model: None,
            prompt,
            media: MediaRuns::default(),
            params,
            prompt_logprobs: None,
            eos_token_ids,
            detokenizer,
            processors: Vec::new(),
            key: String::new(),
            cache_salt: String::new(),
            priority: 0,
            deadline: None,
            cancel: CancelToken::new(),
        }
    }
}

impl std::fmt::Debug for EngineRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineRequest")
            .field("model", &self.model)
            .field("prompt_tokens", &self.prompt.len())
            .field("params", &self.params)
            .field("key", &self.key)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
