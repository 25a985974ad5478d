//! `EngineConfig`: how much at once, for whom, and how fast.

use std::time::Duration;

/// What bounds the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Requests that hold KV blocks at a time.
    pub max_running: usize,
    /// Requests that wait at a time; more are refused.
    pub max_waiting: usize,
    /// Requests of one key, waiting or running; more are refused.
    pub max_open_per_key: Option<usize>,
    /// Positions of one request, prompt and reply together: what model and cache allow.
    pub max_positions: usize,
    /// Tokens of one forward pass. Decoding sequences come first, prompts get the rest.
    pub token_budget: usize,
    /// How long prompts share the machine with replies.
    pub pace: PaceConfig,
    /// Guessing tokens ahead; `None` never does.
    pub speculation: Option<SpeculationConfig>,
    /// What tokens cost a key.
    pub fairness: FairnessConfig,
}

impl EngineConfig {
    /// Defaults for requests of `max_positions` positions at most.
    pub fn new(max_positions: usize) -> Self {
        Self {
            max_running: 32,
            max_waiting: 256,
            max_open_per_key: None,
            max_positions,
            token_budget: 512,
            pace: PaceConfig::default(),
            speculation: Some(SpeculationConfig::default()),
            fairness: FairnessConfig::default(),
        }
    }
}

/// How a long prompt is cut so that running replies do not stall.
///
/// A prompt with at most `short_prompt` tokens left is over soon, and its sender waits for the first
/// word: it runs at once, within the token budget. Of a longer one each step takes as much as makes
/// the step `stretch` times as long as without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaceConfig {
    /// Tokens left to run up to which a prompt is short.
    pub short_prompt: usize,
    /// How much longer a step may take for a long prompt's sake; over 1.
    pub stretch: f64,
    /// Tokens of a long prompt that a step takes at least, so that it arrives in the end.
    pub min_chunk: usize,
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self { short_prompt: 128, stretch: 1.6, min_chunk: 4 }
    }
}

/// Prompt-lookup decoding: what followed the last few tokens the last time they occurred is proposed
/// and checked in the same pass that computes the next token.
///
/// Source: Saxena, "Prompt Lookup Decoding" (2023); vLLM, `v1/spec_decode/ngram_proposer.py`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeculationConfig {
    /// Tokens proposed at most.
    pub max_draft: usize,
    /// The longest run of tokens that is looked up.
    pub max_ngram: usize,
    /// The shortest one.
    pub min_ngram: usize,
    /// Speculation rests while more sequences than this decode: the machine has enough to do.
    pub max_sequences: usize,
    /// A sequence stops guessing where less than this share of its guesses is right...
    pub min_accepted: f64,
    /// ...and tries again after so many tokens.
    pub retry_after: usize,
}

impl Default for SpeculationConfig {
    fn default() -> Self {
        Self {
            max_draft: 4,
            max_ngram: 4,
            min_ngram: 2,
            max_sequences: 2,
            min_accepted: 0.3,
            retry_after: 64,
        }
    }
}

/// What the virtual token counter charges.
///
/// Source: Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), section 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FairnessConfig {
    /// For a prompt token that is run.
    pub prompt_weight: f64,
    /// For a token of a reply.
    pub reply_weight: f64,
}

impl Default for FairnessConfig {
    /// The paper's weights.
    fn default() -> Self {
        Self { prompt_weight: 1.0, reply_weight: 2.0 }
    }
}

/// What a caller should know before it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Positions of one request, prompt and reply together.
    pub max_positions: usize,
    /// The width of the model's logits.
    pub vocab_size: usize,
    /// Requests that wait at a time.
    pub max_waiting: usize,
    /// Requests that run at a time.
    pub max_running: usize,
    /// Requests of one key.
    pub max_open_per_key: Option<usize>,
}

/// The shortest and the longest time that a refused caller is told to wait.
pub(crate) const RETRY_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(60));
