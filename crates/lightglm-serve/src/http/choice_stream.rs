//! `ChoiceStream`: the choices of one HTTP request while the engine makes them.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use lightglm_core::MediaRuns;
use lightglm_generation::{CancelToken, FinishReason, LogitsProcessor, SamplingParams, Step};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::Span;

use super::admission::Admission;
use super::choice_sink::ChoiceSink;
use super::error::ApiError;
use super::models::ModelState;
use super::request_log::meter::Meter;

use crate::engine::{EngineRequest, Event, PromptToken, Rejection, Usage};

/// What all choices of a request have in common.
pub(super) struct SharedParams {
    pub(super) adapter: Option<String>,
    pub(super) params: SamplingParams,
    pub(super) key: String,
    pub(super) priority: i32,
    /// See [`EngineRequest::cache_salt`].
    pub(super) cache_salt: String,
    pub(super) meter: Meter,
    /// Whether events are heard when they happen, or all at the end, which wakes nobody in between.
    pub(super) stream: bool,
    /// What a reply begins with that is no part of its text; usually nothing.
    pub(super) opening: String,
    /// The field that the prompt came in.
    pub(super) prompt_param: &'static str,
}

/// A choice: its prompt, and the processors of its own.
pub(super) struct ChoicePrompt {
    pub(super) prompt: Vec<u32>,
    /// Pictures and recordings among the tokens.
    pub(super) media: MediaRuns,
    /// Added to the seed, so that the choices of a prompt differ.
    pub(super) seed_offset: u64,
    pub(super) processors: Vec<Box<dyn LogitsProcessor>>,
    /// Whether the prompt's tokens are scored, with so many alternatives each.
    pub(super) prompt_logprobs: Option<usize>,
}

/// What a choice hears; failures end the whole stream.
pub(super) enum ChoiceEvent {
    /// The next tokens of the prompt, from its second on.
    Prompt(Vec<PromptToken>),
    Step(Step),
    Finished {
        reason: FinishReason,
        usage: Usage,
    },
}

/// The choices of one HTTP request. Dropped, it cancels those that run.
pub(super) struct ChoiceStream {
    events: UnboundedReceiver<(usize, Event)>,
    cancel: Vec<CancelToken>,
    open: usize,
    /// Of which somebody heard.
    steps: usize,
    /// The HTTP request, for what is logged after its handler.
    span: Span,
    /// Where a failure is told; a test's stream has none.
    meter: Option<Meter>,
    /// Held as long as somebody listens. The engine keeps its deadline; what it does not get to is
    /// given up here.
    admission: Admission,
    /// The model stays until somebody has heard all; a test's stream has none.
    _model: Option<ModelState>,
}

impl Drop for ChoiceStream {
    fn drop(&mut self) {
        if self.open > 0 {
            self.span.in_scope(|| tracing::debug!(steps = self.steps, "abandoned"));
        }
        self.cancel.iter().for_each(CancelToken::cancel);
    }
}

impl ChoiceStream {
    /// Submits all choices, or none.
    ///
    /// # Errors
    /// [`ApiError::Rejected`].
    pub(super) fn start(
        state: &ModelState,
        admission: Admission,
        shared: &SharedParams,
        prompts: Vec<ChoicePrompt>,
    ) -> Result<Self, ApiError> {
        // Unbounded, for the engine must not wait; in effect it holds no more than `max_tokens` steps
        // of each choice.
        let (sender, events) = unbounded_channel();
        let submitted = Instant::now();
        let mut stream = Self {
            events,
            cancel: Vec::new(),
            open: prompts.len(),
            steps: 0,
            span: Span::current(),
            meter: Some(shared.meter.clone()),
            admission,
            _model: Some(state.clone()),
        };
        for (index, choice) in prompts.into_iter().enumerate() {
            let first = choice.seed_offset == 0;
            if state.config.log_prompts && first {
                shared.meter.say_prompt(&state.model.text_of(&choice.prompt));
            }
            let meter = shared.meter.choice(choice.prompt.len(), first);
            let mut params = shared.params.clone();
            params.seed = params.seed.wrapping_add(choice.seed_offset);
            let eos = state.model.text.eos_token_ids().to_vec();
            let detokenizer = state.model.text.reply_detokenizer(&shared.opening);
            let mut request = EngineRequest::new(choice.prompt, params, eos, detokenizer);
            request.media = choice.media;
            request.model.clone_from(&shared.adapter);
            request.processors = choice.processors;
            request.prompt_logprobs = choice.prompt_logprobs;
            request.key.clone_from(&shared.key);
            request.priority = shared.priority;
            request.cache_salt.clone_from(&shared.cache_salt);
            request.deadline = stream.admission.deadline;
            stream.cancel.push(request.cancel.clone());
            let sink = ChoiceSink::new(index, shared.stream, sender.clone());
            let sink = sink.timed(state.metrics.timings(), meter, submitted);
            // Returning drops `stream`, which cancels the choices before this one.
            state.model.engine.submit(request, sink).map_err(|rejection| {
                state.metrics.reject(reason(&rejection));
                let prompt_param = shared.prompt_param;
                match rejection {
                    Rejection::Sampling(error) => ApiError::sampling(&error),
                    Rejection::UnknownModel { name } => ApiError::UnknownModel { name },
                    rejection => ApiError::Rejected { rejection, prompt_param },
                }
            })?;
        }
        Ok(stream)
    }

    /// The next event and whose it is; `None` after the last choice's end.
    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<(usize, ChoiceEvent), ApiError>>> {
        loop {
            if self.open == 0 {
                return Poll::Ready(None);
            }
            // Asked first, for events may come without a pause.
            let event = match self.admission.poll_given_up(context) {
                Poll::Ready(error) => return Poll::Ready(Some(Err(self.failed(error)))),
                Poll::Pending => ready!(self.events.poll_recv(context)),
            };
            let event = match event {
                Some((_, Event::Started { .. })) => continue,
                Some((index, Event::Prompt(tokens))) => Ok((index, ChoiceEvent::Prompt(tokens))),
                Some((index, Event::Step(step))) => {
                    self.steps += usize::from(step.token.is_some());
                    Ok((index, ChoiceEvent::Step(step)))
                }
                // Nobody cancels here but an engine that ends.
                Some((_, Event::Finished { reason: FinishReason::Cancelled, .. })) | None => {
                    Err(self.failed(ApiError::ShuttingDown))
                }
                Some((index, Event::Finished { reason, usage })) => {
                    self.open -= 1;
                    Ok((index, ChoiceEvent::Finished { reason, usage }))
                }
                Some((_, Event::Failed(error))) => Err(self.failed(ApiError::Engine(error))),
            };
            return Poll::Ready(Some(event));
        }
    }

    /// The end of all choices.
    fn failed(&mut self, error: ApiError) -> ApiError {
        self.span.in_scope(|| tracing::warn!(?error, steps = self.steps, "failed"));
        if let Some(meter) = &self.meter {
            meter.failed(&error);
        }
        self.open = 0;
        error
    }

    /// [`ChoiceStream::poll_event`] as a future.
    pub(super) async fn next(&mut self) -> Option<Result<(usize, ChoiceEvent), ApiError>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }
}

fn reason(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::QueueFull { .. } => "queue_full",
        Rejection::KeyLimit { .. } => "key_limit",
        Rejection::Draining => "draining",
        _ => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_a_pause_do_not_put_the_end_off() {
        let (sender, events) = unbounded_channel();
        for _ in 0..3 {
            let usage = Usage::default();
            let finished = Event::Finished { reason: FinishReason::Length, usage };
            sender.send((0, finished)).unwrap();
        }
        let mut stream = ChoiceStream {
            events,
            cancel: Vec::new(),
            open: 1,
            steps: 0,
            span: Span::none(),
            meter: None,
            admission: Admission::overdue(),
            _model: None,
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let first = stream.poll_event(&mut context);
        assert!(matches!(first, Poll::Ready(Some(Err(ApiError::Timeout)))));
        assert!(matches!(stream.poll_event(&mut context), Poll::Ready(None)));
    }
}
