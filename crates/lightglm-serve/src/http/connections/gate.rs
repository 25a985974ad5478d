//! `Gate`: what may be asked on a connection, before the routes are.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;

use super::host::HostRule;
use crate::http::error::ApiError;
use crate::http::keys::auth::OPEN;
use crate::http::shorten::shortened;
use crate::http::state::AppState;

/// What the second listener has.
const ADMIN: [&str; 3] = ["/health", "/ready", "/metrics"];

/// What may be asked on the connections of a listener.
pub(in crate::http) struct Gate {
    hosts: HostRule,
    /// It is the listener for probes and metrics.
    admin: bool,
}

/// Why a request is refused whatever its route is; it travels with the request to [`refuse`].
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    Host(String),
    ForeignHost(String),
    NoPlace,
    NotHere(String),
}

impl Gate {
    pub(in crate::http) fn new(hosts: HostRule, admin: bool) -> Self {
        Self { hosts, admin }
    }

    /// Why `request` is refused, on a connection with a place of the reserve or another.
    pub(super) fn refusal(
        &self,
        request: &hyper::Request<Incoming>,
        reserved: bool,
    ) -> Option<Refusal> {
        let path = request.uri().path();
        if let Err(refusal) = self.hosts.check(request) {
            return Some(refusal);
        }
        let route = path.strip_suffix('/').unwrap_or(path);
        if reserved && !OPEN.contains(&route) {
            return Some(Refusal::NoPlace);
        }
        let here = !self.admin || ADMIN.contains(&route);
        (!here).then(|| Refusal::NotHere(shortened(path)))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Host(reason) => Self::Host { reason },
            Refusal::ForeignHost(host) => Self::ForeignHost { host },
            Refusal::NoPlace => Self::NoPlace,
            Refusal::NotHere(path) => Self::NotHere { path, here: ADMIN.join(", ") },
        }
    }
}

/// Refuses what its connection's gate did not let pass.
pub(in crate::http) async fn refuse(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(refusal) = request.extensions_mut().remove::<Refusal>() else {
        return next.run(request).await;
    };
    if matches!(refusal, Refusal::NoPlace) {
        state.metrics.reject("connection_limit");
    }
    ApiError::from(refusal).into_response()
}
