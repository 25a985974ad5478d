//! Server-sent events: the choices of a request as a stream of JSON, ended by `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
}

/// The data of events that are ready to be sent.
#[derive(Default)]
pub(super) struct EventData(VecDeque<String>);

impl EventData {
    /// Adds a chunk, as JSON.
    pub(super) fn push(&mut self, chunk: &impl Serialize) {
        self.0.extend(serde_json::to_string(chunk));
    }
}

/// The response that streams `choices`. A client that goes away drops it, which cancels.
pub(super) fn stream<E: Encode>(choices: ChoiceStream, encoder: E) -> Response {
    let events = Events { choices: Some(choices), encoder, data: EventData::default() };
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx collects a response before it passes it on, unless told not to.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    (headers, response).into_response()
}

struct Events<E> {
    /// `None` after the end.
    choices: Option<ChoiceStream>,
    encoder: E,
    data: EventData,
}

impl<E: Encode> Events<E> {
    fn take(&mut self, event: Option<Result<(usize, ChoiceEvent), ApiError>>) {
        match event {
            Some(Ok((choice, event))) => self.encoder.event(choice, event, &mut self.data),
            Some(Err(error)) => {
                self.data.push(&error.body());
                self.finish();
            }
            None => {
                self.encoder.end(&mut self.data);
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        self.data.0.push_back("[DONE]".into());
        self.choices = None;
    }
}

impl<E: Encode> Stream for Events<E> {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.data.0.pop_front() {
                return Poll::Ready(Some(Ok(SseEvent::default().data(data))));
            }
            let Some(choices) = &mut this.choices else { return Poll::Ready(None) };
            let event = ready!(choices.poll_event(context));
            this.take(event);
        }
    }
}
