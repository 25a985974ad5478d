//! Server-sent events: a generation as a stream of JSON, ended by `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;

use super::error::ApiError;
use super::generation::{ChoiceEvent, Generation};

/// Between comments while there is nothing to say: proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Turns events into the chunks of a route.
pub(super) trait Encode: Send + Unpin + 'static {
    /// What a client receives.
    type Chunk: Serialize;

    /// An event of a choice.
    fn event(&mut self, choice: usize, event: ChoiceEvent, chunks: &mut Vec<Self::Chunk>);

    /// After the end of all choices.
    fn end(&mut self, chunks: &mut Vec<Self::Chunk>);
}

/// The response that streams `generation`. A client that goes away drops it, which cancels.
pub(super) fn stream<E: Encode>(generation: Generation, encoder: E) -> Response {
    let events = Events { generation: Some(generation), encoder, ready: VecDeque::new() };
    let response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = response.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx collects a response before it passes it on, unless told not to.
    let (name, no) = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(name, no);
    response
}

struct Events<E> {
    /// `None` after the end.
    generation: Option<Generation>,
    encoder: E,
    ready: VecDeque<String>,
}

impl<E: Encode> Events<E> {
    fn take(&mut self, event: Option<Result<(usize, ChoiceEvent), ApiError>>) {
        let mut chunks = Vec::new();
        match event {
            Some(Ok((choice, event))) => self.encoder.event(choice, event, &mut chunks),
            Some(Err(error)) => {
                self.ready.extend(serde_json::to_string(&error.body()).ok());
                self.finish();
            }
            None => {
                self.encoder.end(&mut chunks);
                self.ready.extend(chunks.drain(..).filter_map(|c| serde_json::to_string(&c).ok()));
                self.finish();
            }
        }
        self.ready.extend(chunks.iter().filter_map(|chunk| serde_json::to_string(chunk).ok()));
    }

    fn finish(&mut self) {
        self.ready.push_back("[DONE]".into());
        self.generation = None;
    }
}

impl<E: Encode> Stream for Events<E> {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(SseEvent::default().data(data))));
            }
            let Some(generation) = &mut this.generation else { return Poll::Ready(None) };
            match generation.poll_event(context) {
                Poll::Ready(event) => this.take(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
