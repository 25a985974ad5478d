//! `ThinkingControl`: how long a model thinks, and what it has to say then.
//!
//! Shapes: `V` vocabulary.

use lightglm_text::{Detokenize, Thinking};

use crate::logits_processor::{LogitsProcessor, ProcessorError, TokenHistory};
use crate::reasoning_stream::{ReasoningStream, ReplyPart};

/// Tokens that are waited for, where thoughts would break off within a character or the tag that ends them.
const REST: usize = 8;

/// Ends thoughts that have had their tokens, and holds a reply to its constraint once it is spoken.
///
/// When a budget is spent the tokens that end thoughts are the only ones allowed, one after the other, and
/// the model goes on with its answer. The processor of a constraint sees the answer alone: thoughts are
/// free, but for the tokens that would end the reply without one.
pub struct ThinkingControl {
    stream: ReasoningStream,
    detokenizer: Box<dyn Detokenize + Send>,
    /// The ids that end thoughts.
    end: Vec<u32>,
    budget: Option<usize>,
    /// The constraint of what is said, and the tokens that end a reply.
    answer: Option<(Box<dyn LogitsProcessor>, Vec<u32>)>,
    /// Generated tokens that were read.
    read: usize,
    /// Those of thoughts.
    thought: usize,
    /// Whether the last one completed a character, and begins no tag.
    at_boundary: bool,
    /// Of `end`, the tokens that were asked for, once the budget was spent.
    forced: Option<usize>,
    /// The first token of the answer.
    answer_from: usize,
    parts: Vec<ReplyPart>,
}

impl ThinkingControl {
    /// For a reply of a model that thinks like this. `end` are the ids that end thoughts.
    pub fn new(thinking: Thinking, detokenizer: Box<dyn Detokenize + Send>, end: Vec<u32>) -> Self {
        Self {
            stream: ReasoningStream::new(thinking),
            detokenizer,
            end,
            budget: None,
            answer: None,
            read: 0,
            thought: 0,
            at_boundary: true,
            forced: None,
            answer_from: 0,
            parts: Vec::new(),
        }
    }

    /// With at most `budget` tokens of thoughts, a few more where they would break off within a character or the tag;
    /// those that end them are not counted.
    #[must_use]
    pub fn with_budget(mut self, budget: usize) -> Self {
        self.budget = Some(budget);
        self
    }

    /// With an answer that `processor` holds to its constraint, and that `eos_token_ids` end.
    #[must_use]
    pub fn with_answer(
        mut self,
        processor: Box<dyn LogitsProcessor>,
        eos_token_ids: Vec<u32>,
    ) -> Self {
        self.answer = Some((processor, eos_token_ids));
        self
    }

    /// Reads what was generated since the last time.
    ///
    /// # Errors
    /// Where the answer begins within the token that ends the thoughts, and there is a constraint.
    fn read(&mut self, generated: &[u32]) -> Result<(), ProcessorError> {
        while let Some(&token) = generated.get(self.read) {
            self.read += 1;
            let was_thinking = self.stream.is_thinking();
            let text = self.detokenizer.push(token);
            let is_whole = text.is_some();
            self.parts.clear();
            self.stream.push(&text.unwrap_or_default(), &mut self.parts);
            self.at_boundary = is_whole && !self.stream.may_be_ending();
            let is_forced = self.forced.is_some_and(|forced| forced < self.end.len());
            if let Some(forced) = &mut self.forced
                && is_forced
            {
                *forced += 1;
            } else if was_thinking {
                self.thought += 1;
            }
            if was_thinking || is_forced {
                self.answer_from = self.read;
            }
            let has_begun = self.parts.iter().any(|part| matches!(part, ReplyPart::Content(_)));
            if was_thinking && has_begun && self.answer.is_some() {
                return Err(failed("the answer begins within the token that ends the thoughts"));
            }
        }
        Ok(())
    }

    /// The token that has to follow, where there is one.
    fn forced_token(&mut self) -> Option<u32> {
        let spent = self.budget.is_some_and(|budget| {
            let over = self.thought.checked_sub(budget);
            over.is_some_and(|over| self.at_boundary || over >= REST)
        });
        if self.forced.is_none() && spent && self.stream.is_thinking() {
            self.forced = Some(0);
        }
        self.end.get(self.forced?).copied()
    }
}

impl LogitsProcessor for ThinkingControl {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        self.read(history.generated)?;
        if let Some(token) = self.forced_token() {
            logits.fill(f32::NEG_INFINITY);
            let Some(logit) = logits.get_mut(token as usize) else {
                return Err(failed("the vocabulary has no token that ends thoughts"));
            };
            *logit = 0.0;
            return Ok(());
        }
        let is_thinking = self.stream.is_thinking();
        let Some((answer, eos)) = &mut self.answer else { return Ok(()) };
        if is_thinking {
            for &token in &*eos {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            return Ok(());
        }
        let generated = &history.generated[self.answer_from..];
        answer.process(TokenHistory { prompt: history.prompt, generated }, logits)
    }
}

fn failed(reason: &str) -> ProcessorError {
    ProcessorError { processor: "thinking".to_owned(), reason: reason.to_owned() }
}
