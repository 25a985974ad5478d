//! `Continuation`: what follows one prompt, from logits to text, apart from any model.

use lightglm_text::Detokenize;

use crate::logits_processor::{LogitsProcessor, TokenHistory};
use crate::loop_watch::LoopWatch;
use crate::sample_error::SampleError;
use crate::sampler::Sampler;
use crate::sampling_params::{SamplingError, SamplingParams};
use crate::step::{FinishReason, Step};
use crate::stop_strings::StopStrings;

/// The reply to one prompt while it is made: every row of logits becomes a [`Step`].
///
/// The text of all steps, put together, is the reply: no stop string, no half character.
pub struct Continuation<D> {
    params: SamplingParams,
    eos_token_ids: Vec<u32>,
    /// What penalties call the prompt.
    prompt: Vec<u32>,
    sampler: Sampler,
    stop: StopStrings,
    loops: Option<LoopWatch>,
    detokenizer: D,
    generated: Vec<u32>,
    finished: bool,
}

impl<D: Detokenize> Continuation<D> {
    /// The reply to `prompt` by a model of `vocab_size` tokens.
    ///
    /// # Errors
    /// [`SamplingError`] where the parameters are out of range or name unknown tokens.
    pub fn new(
        params: SamplingParams,
        eos_token_ids: Vec<u32>,
        prompt: Vec<u32>,
        vocab_size: usize,
        detokenizer: D,
    ) -> Result<Self, SamplingError> {
        let sampler = Sampler::new(&params, &eos_token_ids, vocab_size)?;
        let stop = StopStrings::new(&params.stop);
        let loops = (params.loop_tokens > 0).then(|| LoopWatch::new(params.loop_tokens));
        Ok(Self {
            params,
            eos_token_ids,
            prompt,
            sampler,
            stop,
            loops,
            detokenizer,
            generated: Vec::new(),
            finished: false,
        })
    }

    /// Adds a processor that acts after the penalties and before the temperature.
    pub fn push_processor(&mut self, processor: Box<dyn LogitsProcessor>) {
        self.sampler.push_processor(processor);
    }

    /// How tokens are chosen.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// The tokens chosen so far, an end-of-sequence or stop token included.
    pub fn generated(&self) -> &[u32] {
        &self.generated
    }

    /// Whether the last step has come.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Chooses the next token from `logits: [V]`, which is used up as scratch space.
    ///
    /// # Errors
    /// [`SampleError`]; nothing was chosen then.
    pub fn step(&mut self, logits: &mut [f32]) -> Result<Step, SampleError> {
        let history = TokenHistory { prompt: &self.prompt, generated: &self.generated };
        let sampled = self.sampler.sample(history, logits)?;
        self.generated.push(sampled.token);
        let (text, finish) = self.text_of(sampled.token);
        self.finished = finish.is_some();
        let (token, logprob) = (Some(sampled.token), sampled.logprob);
        Ok(Step { token, logprob, top_logprobs: sampled.top_logprobs, text, finish })
    }

    /// The last step, which chooses no token.
    pub fn end(&mut self, reason: FinishReason) -> Step {
        self.finished = true;
        let (text, finish) = self.flush(String::new(), reason);
        Step { token: None, logprob: None, top_logprobs: Vec::new(), text, finish: Some(finish) }
    }

    /// Stops without a step, after an error.
    pub fn abandon(&mut self) {
        self.finished = true;
    }

    fn text_of(&mut self, token: u32) -> (String, Option<FinishReason>) {
        let params = &self.params;
        let reason = if self.eos_token_ids.contains(&token) && !params.ignore_eos {
            Some(FinishReason::Eos)
        } else if params.stop_token_ids.contains(&token) {
            Some(FinishReason::StopToken)
        } else {
            None
        };
        if let Some(reason) = reason {
            let (text, finish) = self.flush(String::new(), reason);
            return (text, Some(finish));
        }
        let piece = self.detokenizer.push(token).unwrap_or_default();
        let (text, stopped) = self.search(piece);
        if stopped {
            return (text, Some(FinishReason::StopString));
        }
        let is_loop = self.loops.as_mut().is_some_and(|loops| loops.hear(&self.generated));
        if is_loop && self.generated.len() > self.params.min_tokens {
            let (text, finish) = self.flush(text, FinishReason::Repetition);
            return (text, Some(finish));
        }
        if self.generated.len() >= self.params.max_tokens {
            let (text, finish) = self.flush(text, FinishReason::Length);
            return (text, Some(finish));
        }
        (text, None)
    }

    fn search(&mut self, piece: String) -> (String, bool) {
        let min_tokens = self.params.min_tokens;
        if min_tokens > 0 && self.generated.len() <= min_tokens {
            return (piece, false);
        }
        let found = self.stop.push(piece);
        (found.text, found.stopped.is_some())
    }

    /// Adds what detokenizer and stop strings still hold back to `text`.
    fn flush(&mut self, mut text: String, reason: FinishReason) -> (String, FinishReason) {
        let piece = self.detokenizer.finish().unwrap_or_default();
        let (last, stopped) = self.search(piece);
        text += &last;
        if stopped {
            return (text, FinishReason::StopString);
        }
        text += &self.stop.finish();
        (text, reason)
    }
}

impl<D> std::fmt::Debug for Continuation<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Continuation")
            .field("params", &self.params)
            .field("prompt_tokens", &self.prompt.len())
            .field("generated", &self.generated)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
