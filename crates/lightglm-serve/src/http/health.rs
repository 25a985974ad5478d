//! `/health` and `/ready`: what probes ask.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::state::AppState;

/// How the server is.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Status {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether the process is of any use: a server whose engine has died has to be started anew, one that
/// drains is well.
#[utoipa::path(get, path = "/health", tag = "operation", responses(
    (status = 200, description = "It lives", body = Status)
))]
pub(super) async fn health(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    if !state.library.is_alive() && !state.is_draining() {
        return Err(ApiError::EngineDead);
    }
    Ok(Json(Status { status: "ok" }))
}

/// Whether new requests are taken.
#[utoipa::path(get, path = "/ready", tag = "operation", responses(
    (status = 200, description = "Requests are taken", body = Status)
))]
pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    if state.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    if !state.library.is_alive() {
        return Err(ApiError::EngineDead);
    }
    Ok(Json(Status { status: "ready" }))
}
