//! The reply of a completion: in one piece, or in chunks of the same form.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use lightglm_generation::Step;
use lightglm_text::ChatText;
use serde::Serialize;

use super::logprobs::CompletionLogprobs;
use super::usage::Usage;
use crate::http::choice_stream::{ChoiceEvent, ChoiceStream};
use crate::http::error::ApiError;
use crate::http::sse::{Encode, EventData};
use crate::http::state::{AppState, unix_time};

/// Continuations, or a part of one that is streamed.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Completion<'a> {
    /// A new one for each request.
    id: &'a str,
    /// `text_completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// Which model answered.
    model: &'a str,
    /// The choices; of each prompt `n`, one prompt after the other.
    #[schema(value_type = Vec<CompletionChoice>)]
    choices: &'a [CompletionChoice],
    /// What it took; while streaming, in the last chunk where `include_usage` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<&'a Usage>>,
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

    fn completion<'a>(
        &'a self,
        choices: &'a [CompletionChoice],
        usage: Option<Option<&'a Usage>>,
    ) -> Completion<'a> {
        let (id, model) = (&self.id, &self.model);
        Completion { id, object: "text_completion", created: self.created, model, choices, usage }
    }
}

/// The reply in one piece.
///
/// # Errors
/// Where a choice fails.
pub(in crate::http) async fn collect(
    mut reply: CompletionReply,
    mut stream: ChoiceStream,
) -> Result<Response, ApiError> {
    let empty = |index| CompletionChoice {
        index,
        text: String::new(),
        logprobs: reply.logprobs.then(CompletionLogprobs::default),
        finish_reason: None,
    };
    let mut choices: Vec<CompletionChoice> = (0..reply.offsets.len()).map(empty).collect();
    while let Some(event) = stream.next().await {
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
    let completion = reply.completion(&choices, Some(Some(&reply.usage)));
    Ok(Json(completion).into_response())
}

/// The reply in chunks.
pub(in crate::http) struct CompletionStream {
    reply: CompletionReply,
    include_usage: bool,
}

impl Encode for CompletionStream {
    fn event(&mut self, index: usize, event: ChoiceEvent, out: &mut EventData) {
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
        out.push(&self.reply.completion(&[choice], self.include_usage.then_some(None)));
    }

    fn end(&mut self, out: &mut EventData) {
        if self.include_usage {
            out.push(&self.reply.completion(&[], Some(Some(&self.reply.usage))));
        }
    }
}
