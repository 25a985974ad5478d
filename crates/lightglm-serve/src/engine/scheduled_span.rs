//! `ScheduledSpan`: what a sequence runs in one step.

use lightglm_core::{LogitRows, MediaPart, SequenceId, Span};

/// What a sequence runs in one step.
#[derive(Clone, Debug)]
pub(super) struct ScheduledSpan {
    /// Index among the running.
    pub(super) index: usize,
    /// What the span says: tokens that are certain, and then guesses.
    pub(super) tokens: Vec<u32>,
    /// How many of them are guesses.
    pub(super) guessed: usize,
    /// Whether the next token is due after the last certain one.
    pub(super) last: bool,
    /// Whether tokens of the prompt are scored, which takes the logits of all rows.
    pub(super) scores: bool,
    /// Whether the sequence decodes: no chunk of a prompt.
    pub(super) decodes: bool,
}

impl ScheduledSpan {
    /// Rows of logits that the span brings.
    pub(super) fn rows(&self) -> usize {
        self.logits().count(self.tokens.len())
    }

    /// The span, of the sequence that the cache knows as `sequence`, with the `media` beside it.
    pub(super) fn in_sequence<'a>(
        &'a self,
        sequence: SequenceId,
        media: &'a MediaPart<'a>,
    ) -> Span<'a> {
        media.span(sequence, &self.tokens, self.logits())
    }

    fn logits(&self) -> LogitRows {
        match (self.last, self.guessed) {
            _ if self.scores => LogitRows::All,
            (false, _) => LogitRows::None,
            (true, 0) => LogitRows::Last,
            (true, _) => LogitRows::All,
        }
    }
}
