//! `Generation`: the choices of one HTTP request while the engine makes them.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use lightglm_generation::{CancelToken, FinishReason, LogitsProcessor, SamplingParams, Step};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::Span;

use super::admission::Admission;
use super::auth::KeyIndex;
use super::error::ApiError;
use super::metrics::Timings;
use super::state::AppState;
use crate::engine::{EngineRequest, Event, EventSink, Rejection, Usage};

/// Whose request it is, before its body is read.
pub(super) struct Peer {
    key: Option<KeyIndex>,
    address: Option<SocketAddr>,
}

impl FromRequestParts<AppState> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        Ok(Self { key: parts.extensions.get::<KeyIndex>().copied(), address })
    }
}

impl Peer {
    /// The fairness key. Where there are API keys a body cannot choose another.
    pub(super) fn fairness_key(&self, user: Option<&str>) -> String {
        match (self.key, user, self.address) {
            (Some(KeyIndex(index)), _, _) => format!("key:{index}"),
            (None, Some(user), _) => format!("user:{user}"),
            (None, None, Some(address)) => format!("peer:{}", address.ip()),
            (None, None, None) => "peer:".into(),
        }
    }
}

/// What all choices of a request have in common.
pub(super) struct Job {
    pub(super) adapter: Option<String>,
    pub(super) params: SamplingParams,
    pub(super) key: String,
    pub(super) priority: i32,
    /// Whether events are heard when they happen, or all at the end, which wakes nobody in between.
    pub(super) stream: bool,
    /// The field that the prompt came in.
    pub(super) prompt_param: &'static str,
}

/// A choice: its prompt, and the processors of its own.
pub(super) struct Draft {
    pub(super) prompt: Vec<u32>,
    /// Added to the seed, so that the choices of a prompt differ.
    pub(super) seed_offset: u64,
    pub(super) processors: Vec<Box<dyn LogitsProcessor>>,
}

/// What a choice hears; failures end the whole generation.
pub(super) enum ChoiceEvent {
    Step(Step),
    Finished { reason: FinishReason, usage: Usage },
}

/// The choices of one HTTP request. Dropped, it cancels those that run.
pub(super) struct Generation {
    events: UnboundedReceiver<(usize, Event)>,
    cancel: Vec<CancelToken>,
    open: usize,
    /// Of which somebody heard.
    steps: usize,
    /// The HTTP request, for what is logged after its handler.
    span: Span,
    /// Held as long as somebody listens. The engine keeps its deadline; what it does not get to is
    /// given up here.
    admission: Admission,
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.open > 0 {
            self.span.in_scope(|| tracing::debug!(steps = self.steps, "abandoned"));
        }
        self.cancel.iter().for_each(CancelToken::cancel);
    }
}

impl Generation {
    /// Submits all drafts, or none.
    ///
    /// # Errors
    /// [`ApiError::Rejected`].
    pub(super) fn start(
        state: &AppState,
        admission: Admission,
        job: &Job,
        drafts: Vec<Draft>,
    ) -> Result<Self, ApiError> {
        // Unbounded, for the engine must not wait; in effect it holds no more than `max_tokens` steps
        // of each choice.
        let (sender, events) = unbounded_channel();
        let submitted = Instant::now();
        let mut generation = Self {
            events,
            cancel: Vec::new(),
            open: drafts.len(),
            steps: 0,
            span: Span::current(),
            admission,
        };
        for (index, draft) in drafts.into_iter().enumerate() {
            let mut params = job.params.clone();
            params.seed = params.seed.wrapping_add(draft.seed_offset);
            let eos = state.text.eos_token_ids().to_vec();
            let detokenizer = state.text.detokenizer();
            let mut request = EngineRequest::new(draft.prompt, params, eos, detokenizer);
            request.model.clone_from(&job.adapter);
            request.processors = draft.processors;
            request.key.clone_from(&job.key);
            request.priority = job.priority;
            request.deadline = generation.admission.deadline;
            generation.cancel.push(request.cancel.clone());
            let listener =
                Listener { index, stream: job.stream, held: Vec::new(), sender: sender.clone() };
            let sink = sink(state.metrics.timings(), listener, submitted);
            // Returning drops `generation`, which cancels the drafts before this one.
            state.engine.submit(request, sink).map_err(|rejection| {
                state.metrics.reject(reason(&rejection));
                let prompt_param = job.prompt_param;
                match rejection {
                    Rejection::Sampling(error) => ApiError::sampling(&error),
                    Rejection::UnknownModel { name } => ApiError::UnknownModel { name },
                    rejection => ApiError::Rejected { rejection, prompt_param },
                }
            })?;
        }
        Ok(generation)
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
        self.open = 0;
        error
    }

    /// [`Generation::poll_event`] as a future.
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

/// Passes events on, and measures when they come.
fn sink(timings: Timings, mut listener: Listener, submitted: Instant) -> EventSink {
    let mut last_token: Option<Instant> = None;
    Box::new(move |event| {
        let now = Instant::now();
        match &event {
            Event::Started { .. } => timings.queue(now - submitted),
            Event::Step(step) if step.token.is_some() => match last_token.replace(now) {
                None => timings.first_token(now - submitted),
                Some(before) => timings.next_token(now - before),
            },
            Event::Step(_) => {}
            Event::Finished { .. } | Event::Failed(_) => timings.request(now - submitted),
        }
        listener.tell(event)
    })
}

/// Who hears the events of a choice.
struct Listener {
    index: usize,
    stream: bool,
    /// Those that were not told yet, where they are all told at the end.
    held: Vec<Event>,
    sender: UnboundedSender<(usize, Event)>,
}

impl Listener {
    /// `Break` where nobody listens any more.
    fn tell(&mut self, event: Event) -> ControlFlow<()> {
        let is_last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        if !self.stream && !is_last {
            self.held.push(event);
            return match self.sender.is_closed() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        let held = std::mem::take(&mut self.held);
        match held.into_iter().chain([event]).try_for_each(|e| self.sender.send((self.index, e))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
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
        let mut generation = Generation {
            events,
            cancel: Vec::new(),
            open: 1,
            steps: 0,
            span: Span::none(),
            admission: Admission::overdue(),
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let first = generation.poll_event(&mut context);
        assert!(matches!(first, Poll::Ready(Some(Err(ApiError::Timeout)))));
        assert!(matches!(generation.poll_event(&mut context), Poll::Ready(None)));
    }
}
