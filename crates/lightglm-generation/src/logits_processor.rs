//! `LogitsProcessor`: the seam between logits and the choice of a token.

/// The tokens that logits follow.
#[derive(Clone, Copy, Debug)]
pub struct TokenHistory<'a> {
    /// The prompt, and what stood in the cache before it.
    pub prompt: &'a [u32],
    /// The tokens this generation has chosen.
    pub generated: &'a [u32],
}

/// Changes logits before a token is chosen.
///
/// Minus infinity bans a token. A processor belongs to one generation, whose history only ever
/// grows, so it may keep counts instead of reading the whole history again.
///
/// Source: Hugging Face transformers, `generation/logits_process.py`.
pub trait LogitsProcessor: Send {
    /// Edits `logits: [V]`, the logits after `history`.
    ///
    /// # Errors
    /// [`ProcessorError`] where it can no longer say which tokens may follow; the generation ends then.
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError>;
}

impl LogitsProcessor for Box<dyn LogitsProcessor> {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        (**self).process(history, logits)
    }
}

/// A processor gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{processor}: {reason}")]
pub struct ProcessorError {
    /// Which processor.
    pub processor: String,
    /// Why.
    pub reason: String,
}
