//! `UnreadBody`: what of a request's body was not read when its answer was ready.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;

/// For what is thrown away to arrive.
const TIME: Duration = Duration::from_secs(5);

/// A body that a handler reads, or does not.
///
/// A connection that is closed with bytes unread is reset, and a client that still sends then often
/// loses the answer too: the reason why it was refused.
pub(in crate::http) struct UnreadBody {
    body: Arc<Mutex<Body>>,
    /// The client waits to be asked for the body.
    waits: bool,
    /// It was asked.
    asked: Arc<AtomicBool>,
}

struct SharedBody {
    body: Arc<Mutex<Body>>,
    asked: Arc<AtomicBool>,
}

fn locked(body: &Mutex<Body>) -> MutexGuard<'_, Body> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UnreadBody {
    /// The request, and a hold on its body.
    pub(in crate::http) fn of(request: Request) -> (Request, Self) {
        let waits = request.headers().contains_key(header::EXPECT);
        let (parts, body) = request.into_parts();
        let body = Arc::new(Mutex::new(body));
        let asked = Arc::new(AtomicBool::new(false));
        let shared = Body::new(SharedBody { body: body.clone(), asked: asked.clone() });
        (Request::from_parts(parts, shared), Self { body, waits, asked })
    }

    /// Reads `most` bytes at most and throws them away.
    pub(in crate::http) async fn discard(self, most: usize) {
        // A client that waits to be asked for its body, and was not, sends none.
        let waits = self.waits && !self.asked.load(Ordering::Relaxed);
        if waits || locked(&self.body).is_end_stream() {
            return;
        }
        let mut rest = SharedBody { body: self.body, asked: self.asked };
        let mut seen = 0usize;
        let read = async {
            while seen <= most {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await;
                let Some(Ok(frame)) = frame else { return };
                seen = seen.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        let _ = timeout(TIME, read).await;
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked.store(true, Ordering::Relaxed);
        Pin::new(&mut *locked(&self.body)).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.body).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.body).size_hint()
    }
}
