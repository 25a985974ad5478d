//! `watched`: bodies that tell the connection when they have arrived, and when they are through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use super::line::Line;

/// A request's body.
struct Arriving {
    body: Incoming,
    line: Arc<Line>,
}

/// An answer's body.
struct Leaving {
    body: Body,
    line: Arc<Line>,
}

/// The request with a body that is watched.
pub(super) fn watched(request: hyper::Request<Incoming>, line: &Arc<Line>) -> Request {
    line.begin(!request.body().is_end_stream());
    request.map(|body| Body::new(Arriving { body, line: line.clone() }))
}

/// The answer with a body that is watched.
pub(super) fn watched_answer(answer: Response, line: &Arc<Line>) -> hyper::Response<Body> {
    answer.map(|body| Body::new(Leaving { body, line: line.clone() }))
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.body).poll_frame(context);
        if matches!(poll, Poll::Ready(None)) || this.body.is_end_stream() {
            this.line.arrived();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl hyper::body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leaving {
    /// hyper lets go of a body when it has buffered the last of it.
    fn drop(&mut self) {
        self.line.answered();
    }
}
