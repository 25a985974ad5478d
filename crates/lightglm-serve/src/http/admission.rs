//! `Admission`: one of the requests that are worked on at the same time.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::error::ApiError;
use super::state::AppState;

/// A place among the requests that are worked on; dropped, it is free.
///
/// It stands before the body in a handler's arguments, so that a body is not read in vain.
pub(super) struct Admission {
    _permit: OwnedSemaphorePermit,
}

impl FromRequestParts<AppState> for Admission {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if state.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let limit = state.config.limits.concurrent_requests;
        let permit = state.admission.clone().try_acquire_owned();
        Ok(Self { _permit: permit.map_err(|_| ApiError::Concurrency { limit })? })
    }
}
