//! Errors in the shape of the API whose path was called.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::error::ApiError;

/// What Anthropic's clients know a request by.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Whose API a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Dialect {
    /// OpenAI's, and this server's own.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

impl Dialect {
    /// By the path.
    pub(in crate::http) fn of(path: &str) -> Self {
        let is_below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (is_below("/v1/messages"), is_below("/api")) {
            (true, _) => Self::Anthropic,
            (_, true) => Self::Ollama,
            _ => Self::OpenAi,
        }
    }
}

/// Whether a body's type does not matter: Ollama's tools do not say that it is JSON. A browser says from where it
/// calls: pages of other origins could post without being asked whether they may, so they have to say the type.
pub(in crate::http) fn takes_any_type(request: &Request) -> bool {
    let is_browser = request.headers().contains_key(header::ORIGIN);
    Dialect::of(request.uri().path()) == Dialect::Ollama && !is_browser
}

/// What an error says, for whoever shapes it anew.
#[derive(Clone)]
pub(in crate::http) struct ErrorMessage(pub(in crate::http) String);

/// Anthropic's kind of an error.
fn anthropic_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 | 405 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        status if status >= 500 => "api_error",
        _ => "invalid_request_error",
    }
}

/// An error of Anthropic's API, with the id of its request where that is known.
pub(in crate::http) fn anthropic_error(
    status: StatusCode,
    message: &str,
    request_id: Option<&str>,
) -> Value {
    let error = json!({"type": anthropic_kind(status), "message": message});
    json!({"type": "error", "error": error, "request_id": request_id})
}

/// An error within a stream of Anthropic's events.
pub(in crate::http) fn anthropic_event(error: &ApiError) -> Value {
    json!({"type": "error", "error": {
        "type": anthropic_kind(error.status()), "message": error.message()}})
}

/// Gives errors of the other APIs' paths their shape, whoever made them: the check of keys, a limit, a handler.
pub(in crate::http) async fn shape_errors(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let mut response = next.run(request).await;
    if dialect == Dialect::OpenAi {
        return response;
    }
    if let (Dialect::Anthropic, Some(id)) = (dialect, response.headers().get("x-request-id")) {
        let id = id.clone();
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let Some(ErrorMessage(message)) = response.extensions().get::<ErrorMessage>().cloned() else {
        return response;
    };
    let (mut parts, _) = response.into_parts();
    let body = match dialect {
        Dialect::Anthropic => {
            let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
            anthropic_error(parts.status, &message, id)
        }
        _ => json!({"error": message}),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (parts, Body::from(body.to_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_an_api() {
        for (path, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/api", Dialect::Ollama),
            ("/apis", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
