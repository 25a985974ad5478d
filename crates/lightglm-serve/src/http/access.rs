//! `Access`: what a route asks of a key.

use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};

use super::state::AppState;

/// What a route asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No key.
    Open,
    /// A user's.
    User,
    /// A user's whose quota is not used up.
    Generate,
    /// One that may read metrics.
    Metrics,
    /// An administrator's.
    Admin,
}

/// A route of the server, as [`Server::routes`](super::Server::routes) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteAccess {
    /// `GET`, which is `HEAD` too, `POST`, or `DELETE`.
    pub method: &'static str,
    /// Its path, with variables in braces.
    pub path: &'static str,
    /// What it asks of a key.
    pub access: Access,
}

/// A route and who may use it: one cannot be added without saying that.
pub(super) struct Route {
    pub(super) named: RouteAccess,
    pub(super) handler: MethodRouter<AppState>,
}

impl Route {
    pub(super) fn get<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "GET", path, access }, handler: get(handler) }
    }

    pub(super) fn post<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "POST", path, access }, handler: post(handler) }
    }

    pub(super) fn delete<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "DELETE", path, access }, handler: delete(handler) }
    }
}
