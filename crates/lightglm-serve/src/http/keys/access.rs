//! `Access`: what a route asks of a key.

use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};

use crate::http::state::AppState;

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

/// A route of the server, as [`Server::routes`](crate::http::Server::routes) names it.
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
pub(in crate::http) struct Route {
    pub(in crate::http) named: RouteAccess,
    pub(in crate::http) handler: MethodRouter<AppState>,
}

impl Route {
    pub(in crate::http) fn get<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "GET", path, access }, handler: get(handler) }
    }

    pub(in crate::http) fn post<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "POST", path, access }, handler: post(handler) }
    }

    pub(in crate::http) fn delete<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { named: RouteAccess { method: "DELETE", path, access }, handler: delete(handler) }
    }
}
