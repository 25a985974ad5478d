//! `Paths`: a slash too many, and what somebody meant who asks for a path that is not there.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use serde_json::Value;
use tower::{ServiceExt, service_fn};

use super::error::ApiError;
use super::shorten::shortened;

/// The routes behind a door where one slash at the end of a path is taken off.
pub(super) fn without_slash(routes: Router) -> Router {
    let door = service_fn(move |mut request: Request<Body>| {
        if let Some(uri) = shorter(request.uri()) {
            *request.uri_mut() = uri;
        }
        routes.clone().oneshot(request)
    });
    Router::new().fallback_service(door)
}

/// The address without its last slash, where that means the same.
fn shorter(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/')?;
    // `/`, `//`, and the viewer's folder.
    if path.is_empty() || path.ends_with('/') || path == "/docs" {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

/// The paths that there are.
pub(super) struct Paths(Vec<String>);

impl Paths {
    /// Those of an OpenAPI document.
    pub(super) fn of(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let paths = document["paths"].as_object();
        let paths = paths.into_iter().flatten().map(|(path, _)| path.clone());
        Self(paths.filter(|path| path.len() > 1 && !path.contains('{')).collect())
    }

    /// That a path is not there, and which one may have been meant.
    pub(super) fn unknown(&self, path: &str) -> ApiError {
        let meant = self.meant(path.trim_end_matches('/'));
        // The base URL of clients, opened as a page.
        let base = || matches!(path, "/v1" | "/v1/").then_some("a route below it, as /v1/models");
        match meant.or_else(base) {
            Some(meant) => ApiError::OtherPath { path: shortened(path), meant: meant.to_owned() },
            None => ApiError::UnknownPath { path: shortened(path) },
        }
    }

    /// The path that has `/v1` in front where this one has none, or that this one ends with: `/v1` twice, or a
    /// proxy's prefix.
    fn meant(&self, path: &str) -> Option<&str> {
        let all = || self.0.iter().map(String::as_str);
        let exact = all().find(|known| known.strip_prefix("/v1") == Some(path));
        let behind = || all().filter(|known| path.ends_with(known)).max_by_key(|known| known.len());
        let without = || {
            let tails = all()
                .filter(|known| known.strip_prefix("/v1").is_some_and(|tail| path.ends_with(tail)));
            tails.max_by_key(|known| known.len())
        };
        exact.or_else(behind).or_else(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let document = r#"{"paths": {"/v1/chat/completions": {}, "/v1/completions": {}, "/v1/models": {},
            "/v1/models/{model}": {}, "/health": {}, "/": {}}}"#;
        let paths = Paths::of(document);
        let cases = [
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/v1/v1/chat/completions", Some("/v1/chat/completions")),
            ("/openai/v1/models", Some("/v1/models")),
            ("/api/chat/completions", Some("/v1/chat/completions")),
            ("/completions", Some("/v1/completions")),
            ("/v1/health", Some("/health")),
            ("/nowhere", None),
            ("", None),
        ];
        for (path, meant) in cases {
            assert_eq!(paths.meant(path), meant, "{path}");
        }
    }

    #[test]
    fn one_slash_goes() {
        let of = |path: &'static str| shorter(&Uri::from_static(path)).map(|uri| uri.to_string());
        assert_eq!(of("/v1/models/?a=/").as_deref(), Some("/v1/models?a=/"));
        assert_eq!(of("http://a/health/").as_deref(), Some("http://a/health"));
        for path in ["/", "//", "/a//", "/docs/", "/health", "/?a=/"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
