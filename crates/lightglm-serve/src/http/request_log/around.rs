//! What surrounds every request: an id, a span, a count, a line in the log, and a net for panics.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Frame, SizeHint};
use tracing::Instrument;

use super::open_request::OpenRequest;
use crate::http::body::unread_body::UnreadBody;
use crate::http::error::ApiError;
use crate::http::state::AppState;

/// The header, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a client may choose.
const LONGEST: usize = 128;

/// Of a refused body so many times the largest is read, and thrown away.
const DISCARD_FACTOR: usize = 16;

/// Gives the request an id (the client's, where it is a harmless one), a span, a count and a line in the log.
pub(in crate::http) async fn surround(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = accepted(request.headers()).unwrap_or_else(|| state.new_id("req-"));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "unknown".into());
    let is_head = request.method() == Method::HEAD;
    let span = tracing::info_span!(
        "request", request_id = %id, method = %request.method(), route = %route
    );
    // Dropped with the future, where the client goes away, it is the end of the request too.
    let mut open = OpenRequest::new(state.clone(), id, route, &mut request);
    let (request, unread) = UnreadBody::of(request);
    let answer = async {
        let mut response = unless_it_panics(next.run(request)).await;
        // Before what is left of the body is waited for: who goes away meanwhile was refused all the same.
        open.answered(&response);
        if is_head {
            // Its answer has no body whose end could be seen.
            open.sent();
        }
        // Who was too slow already is not waited for again.
        let refused = !response.status().is_success();
        if refused && response.status() != StatusCode::REQUEST_TIMEOUT {
            let limit = state.config.limits.body_bytes.saturating_mul(DISCARD_FACTOR);
            unread.discard(limit).await;
        }
        if let Ok(value) = HeaderValue::from_str(open.id()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response.map(|body| Body::new(OpenBody { body, open }))
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

/// A body whose end, or whose being dropped, is the end of its request.
struct OpenBody {
    body: Body,
    open: OpenRequest,
}

impl hyper::body::Body for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            this.open.sent();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        // One of a known length is not asked for more than that.
        if self.body.is_end_stream() {
            self.open.sent();
        }
    }
}
