//! Streams of events: the choices of a request as server-sent events, or as lines of JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;

use super::choice_stream::{ChoiceEvent, ChoiceStream};
use super::error::ApiError;

/// Between comments while there is nothing to say: proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Turns events into the chunks of a route.
pub(super) trait Encode: Send + Unpin + 'static {
    /// An event of a choice.
    fn event(&mut self, choice: usize, event: ChoiceEvent, out: &mut EventData);

    /// After the end of all choices.
    fn end(&mut self, out: &mut EventData);

    /// After a failure, which ends all choices.
    fn failed(&mut self, error: &ApiError, out: &mut EventData) {
        out.push(&error.body());
    }

    /// What a stream ends with, whatever happened.
    const LAST: Option<&'static str> = Some("[DONE]");

    /// The event that keeps a connection open, by its name and data; a comment where it is absent.
    const PING: Option<(&'static str, &'static str)> = None;
}

/// The data of events that are ready to be sent.
#[derive(Default)]
pub(super) struct EventData(VecDeque<(Option<&'static str>, String)>);

impl EventData {
    /// Adds a chunk, as JSON.
    pub(super) fn push(&mut self, chunk: &impl Serialize) {
        self.0.extend(serde_json::to_string(chunk).map(|chunk| (None, chunk)));
    }

    /// Adds an event that has a name.
    pub(super) fn push_named(&mut self, name: &'static str, chunk: &impl Serialize) {
        self.0.extend(serde_json::to_string(chunk).map(|chunk| (Some(name), chunk)));
    }
}

/// The response that streams `choices` as server-sent events. A client that goes away drops it, which cancels.
pub(super) fn stream<E: Encode>(choices: ChoiceStream, encoder: E) -> Response {
    let mut keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    if let Some((name, data)) = E::PING {
        keep_alive = keep_alive.event(SseEvent::default().event(name).data(data));
    }
    let response = Sse::new(Events::new(choices, encoder)).keep_alive(keep_alive);
    (UNBUFFERED, response).into_response()
}

/// The same as lines of JSON.
pub(super) fn lines<E: Encode>(choices: ChoiceStream, encoder: E) -> Response {
    let body = Body::from_stream(Lines(Events::new(choices, encoder)));
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    (UNBUFFERED, kind, body).into_response()
}

const UNBUFFERED: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    // nginx collects a response before it passes it on, unless told not to.
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

struct Events<E> {
    /// `None` after the end.
    choices: Option<ChoiceStream>,
    encoder: E,
    data: EventData,
}

impl<E: Encode> Events<E> {
    fn new(choices: ChoiceStream, encoder: E) -> Self {
        Self { choices: Some(choices), encoder, data: EventData::default() }
    }

    fn take(&mut self, event: Option<Result<(usize, ChoiceEvent), ApiError>>) {
        match event {
            Some(Ok((choice, event))) => self.encoder.event(choice, event, &mut self.data),
            Some(Err(error)) => {
                self.encoder.failed(&error, &mut self.data);
                self.finish();
            }
            None => {
                self.encoder.end(&mut self.data);
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        self.data.0.extend(E::LAST.map(|last| (None, last.into())));
        self.choices = None;
    }

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<(Option<&'static str>, String)>> {
        loop {
            if let Some(data) = self.data.0.pop_front() {
                return Poll::Ready(Some(data));
            }
            let Some(choices) = &mut self.choices else { return Poll::Ready(None) };
            let event = ready!(choices.poll_event(context));
            self.take(event);
        }
    }
}

impl<E: Encode> Stream for Events<E> {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.get_mut().poll_data(context)).map(|(name, data)| {
            let event = match name {
                Some(name) => SseEvent::default().event(name),
                None => SseEvent::default(),
            };
            Ok(event.data(data))
        });
        Poll::Ready(event)
    }
}

struct Lines<E>(Events<E>);

impl<E: Encode> Stream for Lines<E> {
    type Item = Result<String, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = ready!(self.get_mut().0.poll_data(context));
        Poll::Ready(line.map(|(_, data)| Ok(data + "\n")))
    }
}
