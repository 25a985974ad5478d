//! What surrounds every request: an id, a span, a count, and a net for panics.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::error::ApiError;
use super::state::AppState;
use super::unread_body::UnreadBody;

/// The header, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a client may choose.
const LONGEST: usize = 128;

/// Of a refused body so many times the largest is read, and thrown away.
const DISCARD_FACTOR: usize = 16;

/// Gives the request an id (the client's, where it is a harmless one), a span and a count.
pub(super) async fn surround(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = accepted(request.headers()).unwrap_or_else(|| state.new_id("req-"));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "unknown".into());
    let method = request.method().clone();
    let (request, unread) = UnreadBody::of(request);
    let span = tracing::info_span!("request", request_id = %id, %method, route = %route);
    let answer = async {
        let mut response = unless_it_panics(next.run(request)).await;
        // Who was too slow already is not waited for again.
        let refused = !response.status().is_success();
        if refused && response.status() != StatusCode::REQUEST_TIMEOUT {
            let limit = state.config.limits.body_bytes.saturating_mul(DISCARD_FACTOR);
            unread.discard(limit).await;
        }
        let status = response.status().as_u16();
        state.metrics.count(&route, status);
        tracing::info!(status, elapsed_ms = started.elapsed().as_millis() as u64, "answered");
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    };
    answer.instrument(span).await
}

/// The client's id: visible, short, and without anything that means something to a log.
fn accepted(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (!id.is_empty() && id.len() <= LONGEST && id.bytes().all(harmless)).then(|| id.to_owned())
}

/// The last resort: a handler that panics is a bug here, answered with a 500.
async fn unless_it_panics(answer: impl Future<Output = Response>) -> Response {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        // The future is dropped after a panic, unpolled.
        match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(ApiError::Internal.into_response()),
        }
    })
    .await
}
