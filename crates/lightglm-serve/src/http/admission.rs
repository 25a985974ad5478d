//! `Admission`: one of the requests that are worked on at the same time, and how long it may take.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::error::ApiError;
use super::state::AppState;

/// After the deadline, for the engine to say that it passed.
const GRACE: Duration = Duration::from_secs(1);

/// A place among the requests that are worked on; dropped, it is free.
///
/// It stands before the body in a handler's arguments, so that a body is not read in vain: where all places are
/// taken the request is refused at once. The place itself is taken when the body is there
/// ([`Awaited::take`]): a client that sends its body slowly keeps nobody else from being served.
pub(super) struct Admission {
    _permit: Permit,
    /// When the whole reply has to be there; `None` is never.
    pub(super) deadline: Option<Instant>,
    /// Ready once nobody should wait any longer; not to be polled after that.
    given_up: Pin<Box<dyn Future<Output = ApiError> + Send>>,
}

/// What an admission and its request share until the body is there.
type Permit = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// In the extensions of a request: the admission that waits for its body.
#[derive(Clone)]
pub(super) struct Awaited(Permit);

impl Awaited {
    /// Takes the place, for as long as the admission lives.
    ///
    /// # Errors
    /// [`ApiError::ShuttingDown`], [`ApiError::Concurrency`].
    pub(super) fn take(self, state: &AppState) -> Result<(), ApiError> {
        open(state)?;
        let permit = state.admission.clone().try_acquire_owned().map_err(|_| full(state))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        Ok(())
    }
}

fn open(state: &AppState) -> Result<(), ApiError> {
    if state.is_draining() {
        state.metrics.reject("draining");
        return Err(ApiError::ShuttingDown);
    }
    Ok(())
}

fn full(state: &AppState) -> ApiError {
    state.metrics.reject("concurrency_limit");
    ApiError::Concurrency { limit: state.config.limits.concurrent_requests }
}

impl FromRequestParts<AppState> for Admission {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        open(state)?;
        if state.admission.available_permits() == 0 {
            return Err(full(state));
        }
        let permit = Permit::default();
        parts.extensions.insert(Awaited(permit.clone()));
        let timeout = state.config.limits.request_timeout;
        let the_end = state.the_end();
        let given_up = async move {
            tokio::select! {
                () = the_end => ApiError::ShuttingDown,
                () = sleep(timeout.saturating_add(GRACE)) => ApiError::Timeout,
            }
        };
        Ok(Self {
            _permit: permit,
            deadline: Instant::now().checked_add(timeout),
            given_up: Box::pin(given_up),
        })
    }
}

impl Admission {
    /// One whose time is over.
    #[cfg(test)]
    pub(super) fn overdue() -> Self {
        Self {
            _permit: Permit::default(),
            deadline: None,
            given_up: Box::pin(async { ApiError::Timeout }),
        }
    }

    /// Ready, once, where the request's time or the server's is over.
    pub(super) fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<ApiError> {
        self.given_up.as_mut().poll(context)
    }

    /// Waits for `work`, but not for ever.
    ///
    /// # Errors
    /// [`ApiError::Timeout`], [`ApiError::ShuttingDown`].
    pub(super) async fn wait_for<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            error = self.given_up.as_mut() => Err(error),
            done = work => Ok(done),
        }
    }
}
