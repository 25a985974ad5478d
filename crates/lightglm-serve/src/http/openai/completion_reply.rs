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
use crate::http::models::ModelState;
use crate::http::sse::{Encode, EventData};
use crate::http::state::unix_time;

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
    /// Of each choice, the prompt that it repeats and has not yet; empty where none does.
    echoes: Vec<Option<Echo>>,
    /// Whether the prompts are all that is asked for.
    echo_alone: bool,
    usage: Usage,
}

/// A prompt that is repeated.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) text: String,
    /// Its first token.
    pub(super) first: Option<u32>,
}

impl CompletionReply {
    /// A reply of `choices` choices, `n` for each prompt.
    pub(in crate::http) fn new(
        state: &ModelState,
        model: String,
        choices: usize,
        n: usize,
        logprobs: bool,
    ) -> Self {
        Self {
            text: state.model.text.clone(),
            id: state.new_id("cmpl-"),
            created: unix_time(),
            model,
            n,
            logprobs,
            offsets: vec![0; choices],
            echoes: Vec::new(),
            echo_alone: false,
            usage: Usage::default(),
        }
    }

    /// The reply that repeats `echoes`, one for each prompt, and says nothing more where they come `alone`.
    pub(super) fn with_echoes(mut self, echoes: Vec<Echo>, alone: bool) -> Self {
        let each = |echo: Echo| vec![Some(echo); self.n];
        self.echoes = echoes.into_iter().flat_map(each).collect();
        self.echo_alone = alone;
        self
    }

    /// What the choice `index` begins with, once.
    fn echo(&mut self, index: usize) -> Option<(String, Option<CompletionLogprobs>)> {
        let echo = self.echoes.get_mut(index)?.take()?;
        let offset = &mut self.offsets[index];
        let first = echo.first.filter(|_| self.logprobs);
        let first = first.map(|token| CompletionLogprobs::of_first(token, &*self.text, offset));
        Some((echo.text, first))
    }

    /// What an event adds to the choice `index`.
    fn part(&mut self, index: usize, event: ChoiceEvent) -> CompletionChoice {
        let (mut text, mut logprobs) = self.echo(index).unwrap_or_default();
        let mut finish_reason = None;
        let new = match event {
            ChoiceEvent::Prompt(tokens) => {
                let offset = &mut self.offsets[index];
                Some(CompletionLogprobs::of_prompt(&tokens, &*self.text, offset))
            }
            ChoiceEvent::Step(_) if self.echo_alone => None,
            ChoiceEvent::Step(step) => {
                text.push_str(&step.text);
                self.logprobs(index, &step)
            }
            ChoiceEvent::Finished { reason, mut usage } => {
                if self.echo_alone {
                    usage.completion_tokens = 0;
                }
                self.usage.add(usage, index.is_multiple_of(self.n));
                finish_reason = Some(if self.echo_alone { "length" } else { reason.as_str() });
                None
            }
        };
        append(&mut logprobs, new);
        CompletionChoice { index, text, logprobs, finish_reason }
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

fn append(logprobs: &mut Option<CompletionLogprobs>, new: Option<CompletionLogprobs>) {
    match (logprobs, new) {
        (Some(all), Some(new)) => all.append(new),
        (none @ None, new) => *none = new,
        (Some(_), None) => {}
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
        let part = reply.part(index, event);
        let choice = &mut choices[index];
        choice.text.push_str(&part.text);
        append(&mut choice.logprobs, part.logprobs);
        choice.finish_reason = part.finish_reason;
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
        let choice = self.reply.part(index, event);
        if choice.text.is_empty() && choice.logprobs.is_none() && choice.finish_reason.is_none() {
            return;
        }
        out.push(&self.reply.completion(&[choice], self.include_usage.then_some(None)));
    }

    fn end(&mut self, out: &mut EventData) {
        if self.include_usage {
            out.push(&self.reply.completion(&[], Some(Some(&self.reply.usage))));
        }
    }
}
