//! The reply of a completion: in one piece, or in chunks of the same form.

use std::sync::Arc;

use lightglm_generation::{ChatText, Step};
use serde::Serialize;

use super::logprobs::CompletionLogprobs;
use super::usage::Usage;
use crate::http::error::ApiError;
use crate::http::generation::{ChoiceEvent, Generation};
use crate::http::sse::Encode;
use crate::http::state::{AppState, unix_time};

/// Continuations, or a part of one that is streamed.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Completion {
    /// A new one for each request.
    id: String,
    /// `text_completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// Which model answered.
    model: String,
    /// The choices; of each prompt `n`, one prompt after the other.
    choices: Vec<CompletionChoice>,
    /// What it took; while streaming, in the last chunk where `include_usage` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<Usage>>,
}

/// A choice.
#[derive(Serialize, utoipa::ToSchema)]
struct CompletionChoice {
    /// From 0.
    index: usize,
    /// The text, or more of it.
    text: String,
    /// Log-probabilities, where they were asked for.
    #[schema(required)]
    logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; null while more follows.
    #[schema(required)]
    finish_reason: Option<&'static str>,
}

/// A reply that is about to come.
pub(in crate::http) struct CompletionReply {
    text: Arc<dyn ChatText>,
    id: String,
    created: u64,
    model: String,
    /// Choices per prompt.
    n: usize,
    logprobs: bool,
    /// Of each choice, where its next token begins.
    offsets: Vec<usize>,
    usage: Usage,
}

impl CompletionReply {
    /// A reply of `choices` choices, `n` for each prompt.
    pub(in crate::http) fn new(
        state: &AppState,
        model: String,
        choices: usize,
        n: usize,
        logprobs: bool,
    ) -> Self {
        Self {
            text: state.text.clone(),
            id: state.new_id("cmpl-"),
            created: unix_time(),
            model,
            n,
            logprobs,
            offsets: vec![0; choices],
            usage: Usage::default(),
        }
    }

    /// The reply in chunks.
    pub(in crate::http) fn stream(self, include_usage: bool) -> CompletionStream {
        CompletionStream { reply: self, include_usage }
    }

    fn logprobs(&mut self, index: usize, step: &Step) -> Option<CompletionLogprobs> {
        let offset = &mut self.offsets[index];
        self.logprobs.then(|| CompletionLogprobs::of(step, &*self.text, offset)).flatten()
    }

    fn completion(
        &self,
        choices: Vec<CompletionChoice>,
        usage: Option<Option<Usage>>,
    ) -> Completion {
        let (id, model) = (self.id.clone(), self.model.clone());
        Completion { id, object: "text_completion", created: self.created, model, choices, usage }
    }
}

/// The reply in one piece.
///
/// # Errors
/// Where a choice fails.
pub(in crate::http) async fn collect(
    mut reply: CompletionReply,
    mut generation: Generation,
) -> Result<Completion, ApiError> {
    let empty = |index| CompletionChoice {
        index,
        text: String::new(),
        logprobs: reply.logprobs.then(CompletionLogprobs::default),
        finish_reason: None,
    };
    let mut choices: Vec<CompletionChoice> = (0..reply.offsets.len()).map(empty).collect();
    while let Some(event) = generation.next().await {
        let (index, event) = event?;
        let choice = &mut choices[index];
        match event {
            ChoiceEvent::Step(step) => {
                let new = reply.logprobs(index, &step);
                if let (Some(all), Some(new)) = (&mut choice.logprobs, new) {
                    all.append(new);
                }
                choice.text.push_str(&step.text);
            }
            ChoiceEvent::Finished { reason, usage } => {
                choice.finish_reason = Some(reason.as_str());
                reply.usage.add(usage, index.is_multiple_of(reply.n));
            }
        }
    }
    let usage = Some(Some(reply.usage.clone()));
    Ok(reply.completion(choices, usage))
}

/// The reply in chunks.
pub(in crate::http) struct CompletionStream {
    reply: CompletionReply,
    include_usage: bool,
}

impl Encode for CompletionStream {
    type Chunk = Completion;

    fn event(&mut self, index: usize, event: ChoiceEvent, chunks: &mut Vec<Self::Chunk>) {
        let (text, logprobs, finish_reason) = match event {
            ChoiceEvent::Step(step) => {
                let logprobs = self.reply.logprobs(index, &step);
                if step.text.is_empty() && logprobs.is_none() {
                    return;
                }
                (step.text, logprobs, None)
            }
            ChoiceEvent::Finished { reason, usage } => {
                self.reply.usage.add(usage, index.is_multiple_of(self.reply.n));
                (String::new(), None, Some(reason.as_str()))
            }
        };
        let choice = CompletionChoice { index, text, logprobs, finish_reason };
        chunks.push(self.reply.completion(vec![choice], self.include_usage.then_some(None)));
    }

    fn end(&mut self, chunks: &mut Vec<Self::Chunk>) {
        if self.include_usage {
            let usage = Some(Some(self.reply.usage.clone()));
            chunks.push(self.reply.completion(Vec::new(), usage));
        }
    }
}
