//! `RunningSequence`: a request that the scheduler has taken in, and how far it is.

use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::{MediaRuns, SequenceId};
use lightglm_generation::{CancelToken, Continuation, FinishReason, token_logprobs};
use lightglm_text::Detokenize;

use super::event::{Event, EventSink, PromptToken, Usage};
use super::lookup::Lookup;
use super::models::ModelSlot;

/// A request that the scheduler has taken in, and how far it is.
///
/// It stands in the queue until there is room, and again after it was preempted: then it has no place
/// in the cache, and keeps its tokens.
pub(super) struct RunningSequence<B: Backend> {
    pub(super) arrival: u64,
    pub(super) key: String,
    pub(super) priority: i32,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: CancelToken,
    pub(super) sink: EventSink,
    pub(super) model: ModelSlot<B>,
    /// What is left to be told of the prompt's own tokens.
    pub(super) scores: Option<PromptScores>,
    /// Whose keys and values it may find: those of the same model and the same salt of the request.
    pub(super) cache_salt: u64,
    pub(super) reply: Continuation<Box<dyn Detokenize + Send>>,
    /// Pictures and recordings of the prompt. They stay until the end: a sequence that was preempted needs them again.
    pub(super) media: MediaRuns,
    /// Prompt and reply.
    pub(super) tokens: Vec<u32>,
    /// Where it is in the cache, while it runs.
    pub(super) id: Option<SequenceId>,
    /// Tokens whose keys and values the cache holds.
    pub(super) held: usize,
    /// Of these, how many other requests can find.
    pub(super) published: usize,
    pub(super) usage: Usage,
    pub(super) started: bool,
    /// Whether it has been told its end.
    pub(super) over: bool,
    pub(super) lookup: Option<Lookup>,
}

/// What is told of a prompt's tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromptScores {
    /// Alternatives for each.
    pub(super) top: usize,
    /// Tokens that nothing is left to be told of; of the first there is never anything.
    pub(super) told: usize,
}

impl<B: Backend> RunningSequence<B> {
    /// Whether rows of logits are due for tokens of the prompt.
    pub(super) fn is_scoring(&self) -> bool {
        self.scores.is_some_and(|scores| scores.told < self.usage.prompt_tokens)
    }

    /// The tokens whose keys and values may come from the cache, but for the last: what is scored is run.
    pub(super) fn cacheable(&self) -> &[u32] {
        match self.scores {
            Some(scores) if self.is_scoring() => &self.tokens[..scores.told],
            _ => &self.tokens,
        }
    }

    /// Tells the prompt's tokens that stand behind `rows: [rows, width]`, of which the first is that of the token
    /// `from`.
    pub(super) fn score(&mut self, from: usize, rows: &[f32], width: usize) {
        let Some(scores) = self.scores else { return };
        let mut scored = Vec::new();
        for (next, row) in (from + 1..self.usage.prompt_tokens).zip(rows.chunks_exact(width)) {
            if next < scores.told {
                continue;
            }
            let token = self.tokens[next];
            let (logprob, top_logprobs) = token_logprobs(row, token, scores.top);
            scored.push(PromptToken { token, logprob, top_logprobs });
        }
        if !scored.is_empty() {
            let told = scores.told + scored.len();
            self.scores = Some(PromptScores { told, ..scores });
            self.tell(Event::Prompt(scored));
        }
    }

    /// Tokens that the cache does not hold yet; 1 for a sequence that decodes.
    pub(super) fn rest(&self) -> usize {
        self.tokens.len() - self.held
    }

    /// Whether a span of one token brings the next one.
    pub(super) fn decodes(&self) -> bool {
        self.rest() == 1 && self.usage.completion_tokens > 0
    }

    /// Tells the client; where nobody listens, cancels. Nothing follows an end.
    pub(super) fn tell(&mut self, event: Event) {
        if self.over {
            return;
        }
        self.over = matches!(event, Event::Finished { .. } | Event::Failed(_));
        if (self.sink)(event).is_break() {
            self.cancel.cancel();
        }
    }

    /// The last two events, after an end that no token brought about.
    pub(super) fn end(&mut self, reason: FinishReason) {
        let step = self.reply.end(reason);
        self.tell(Event::Step(step));
        self.tell_finished(reason);
    }

    pub(super) fn tell_finished(&mut self, reason: FinishReason) {
        let usage = self.usage;
        self.tell(Event::Finished { reason, usage });
    }
}
