//! Server-sent events: a generation as a stream of JSON, ended by `[DONE]`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep};

use super::error::ApiError;
use super::generation::{ChoiceEvent, Generation};

/// Between comments while there is nothing to say: proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A comment, which clients skip.
const COMMENT: &[u8] = b":\n\n";

/// Bytes of events that are sent together, where so many are there.
const PIECE: usize = 16 << 10;

/// Turns events into the chunks of a route.
pub(super) trait Encode: Send + Unpin + 'static {
    /// An event of a choice.
    fn event(&mut self, choice: usize, event: ChoiceEvent, out: &mut EventText);

    /// After the end of all choices.
    fn end(&mut self, out: &mut EventText);
}

/// Events as they stand on the wire.
#[derive(Default)]
pub(super) struct EventText(Vec<u8>);

impl EventText {
    /// Adds a chunk. In JSON a line break is escaped, so that it is one line.
    pub(super) fn push(&mut self, chunk: &impl Serialize) {
        let begin = self.0.len();
        self.0.extend_from_slice(b"data: ");
        match serde_json::to_writer(&mut self.0, chunk) {
            Ok(()) => self.0.extend_from_slice(b"\n\n"),
            Err(_) => self.0.truncate(begin),
        }
    }
}

/// The response that streams `generation`. A client that goes away drops it, which cancels.
pub(super) fn stream<E: Encode>(generation: Generation, encoder: E) -> Response {
    let events = Events {
        generation: Some(generation),
        encoder,
        text: EventText::default(),
        silence: Box::pin(sleep(KEEP_ALIVE)),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx collects a response before it passes it on, unless told not to.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

struct Events<E> {
    /// `None` after the end.
    generation: Option<Generation>,
    encoder: E,
    /// What is ready to be sent.
    text: EventText,
    /// Ends when a comment is due.
    silence: Pin<Box<Sleep>>,
}

impl<E: Encode> Events<E> {
    fn take(&mut self, event: Option<Result<(usize, ChoiceEvent), ApiError>>) {
        match event {
            Some(Ok((choice, event))) => self.encoder.event(choice, event, &mut self.text),
            Some(Err(error)) => {
                self.text.push(&error.body());
                self.finish();
            }
            None => {
                self.encoder.end(&mut self.text);
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        self.text.0.extend_from_slice(b"data: [DONE]\n\n");
        self.generation = None;
    }
}

impl<E: Encode> Stream for Events<E> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while this.text.0.len() < PIECE {
            let Some(generation) = &mut this.generation else { break };
            match generation.poll_event(context) {
                Poll::Ready(event) => this.take(event),
                Poll::Pending => break,
            }
        }
        let bytes = if !this.text.0.is_empty() {
            Bytes::from(std::mem::take(&mut this.text.0))
        } else if this.generation.is_none() {
            return Poll::Ready(None);
        } else {
            ready!(this.silence.as_mut().poll(context));
            Bytes::from_static(COMMENT)
        };
        this.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(bytes)))
    }
}
