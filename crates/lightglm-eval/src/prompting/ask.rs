//! Asking a model: prompts in, replies or label likelihoods out.

use burn::tensor::backend::Backend;
use lightglm_core::KvCache;
use lightglm_generation::batched::{
    BatchError, BatchOptions, BatchSubject, ReplyControl, generate, log_likelihoods,
};
use lightglm_generation::{
    FinishReason, Generation, GenerationError, GenerationRequest, RunControl, SamplingParams,
};

use super::prompt::{Prompt, PromptText, TextFailure};
use crate::metrics::most_likely;

/// Why a model could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// A prompt could not be turned into token ids.
    #[error("prompt {prompt}: {source}")]
    Prompt {
        /// Its index.
        prompt: usize,
        /// What the tokenizer or the template said.
        source: TextFailure,
    },
    /// An answer could not be turned into token ids.
    #[error("the answer `{answer}`: {source}")]
    Answer {
        /// The answer.
        answer: String,
        /// What the tokenizer said.
        source: TextFailure,
    },
    /// The model could not answer a prompt.
    #[error("prompt {prompt}: {source}")]
    Reply {
        /// Its index.
        prompt: usize,
        /// What the model or the sampler said.
        source: GenerationError,
    },
    /// The batch could not be run.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Greedy replies as texts; `None` where the stop flag was raised before one was complete.
///
/// A reply ends with one of `end_tokens`, after `max_new_tokens`, or where `is_complete` says so. The
/// first prompt that fails ends them all.
///
/// # Errors
/// [`AskError`].
pub fn ask<B: Backend, C: KvCache<B>>(
    subject: &mut BatchSubject<'_, B, C>,
    text: &dyn PromptText,
    prompts: &[Prompt],
    (end_tokens, max_new_tokens): (&[u32], usize),
    is_complete: &dyn Fn(&str) -> bool,
    options: &BatchOptions,
    control: &mut RunControl<'_>,
) -> Result<Vec<Option<String>>, AskError> {
    let ids = encode(text, prompts)?;
    let params = SamplingParams { max_tokens: max_new_tokens, ..SamplingParams::default() };
    // Replies are decoded as a whole, by whoever tells prompts from text.
    let no_text = |_: u32| None;
    let request = |ids| GenerationRequest::new(ids, params.clone(), end_tokens.to_vec(), no_text);
    let requests = ids.into_iter().map(request).collect();
    let is_complete = |_, reply: &[u32]| is_complete(&text.decode(reply));
    let mut replies =
        ReplyControl { is_complete: Some(&is_complete), stop_at_error: true, ..Default::default() };
    let results = generate(subject, requests, options, &mut replies, control)?;
    let reply = |(prompt, result): (usize, Result<Generation, GenerationError>)| {
        let reply = result.map_err(|source| AskError::Reply { prompt, source })?;
        let is_whole = reply.finish != FinishReason::Cancelled;
        Ok(is_whole.then(|| text.decode(reply.content())))
    };
    results.into_iter().enumerate().map(reply).collect()
}

/// For each prompt the index of the likeliest of `answers`, by the sum of the log-likelihoods of
/// its tokens and by the mean a byte; `None` where the stop flag was raised.
///
/// # Errors
/// [`AskError`].
pub fn most_likely_labels<B: Backend, C: KvCache<B>>(
    subject: &mut BatchSubject<'_, B, C>,
    text: &dyn PromptText,
    prompts: &[Prompt],
    answers: &[String],
    options: &BatchOptions,
    control: &mut RunControl<'_>,
) -> Result<Vec<Option<[usize; 2]>>, AskError> {
    let ids = encode(text, prompts)?;
    let encode = |answer: &String| {
        text.encode_answer(answer)
            .map_err(|source| AskError::Answer { answer: answer.clone(), source })
    };
    let continuations = answers.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let bytes: Vec<f64> = answers.iter().map(|answer| answer.len() as f64).collect();
    let ones = vec![1.0; answers.len()];
    let scores = log_likelihoods(subject, &ids, &continuations, options, control)?;
    let choose = |scores: Option<Vec<f64>>| {
        scores.map(|scores| [most_likely(&scores, &ones), most_likely(&scores, &bytes)])
    };
    Ok(scores.into_iter().map(choose).collect())
}

fn encode(text: &dyn PromptText, prompts: &[Prompt]) -> Result<Vec<Vec<u32>>, AskError> {
    let encode = |(prompt, asked)| {
        text.encode_prompt(asked).map_err(|source| AskError::Prompt { prompt, source })
    };
    prompts.iter().enumerate().map(encode).collect()
}
