//! The web page: three files, built in.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::ApiError;

/// Nothing from elsewhere, nothing inline.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Swagger UI sets styles from its scripts and has pictures as `data:`.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

fn file(content_type: &str, policy: &'static str, bytes: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files change with the program.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}

pub(super) async fn index() -> Response {
    file(HTML, POLICY, include_str!("page/index.html"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", POLICY, include_str!("page/style.css"))
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", POLICY, include_str!("page/app.js"))
}

pub(super) async fn docs() -> Redirect {
    Redirect::permanent("/docs/")
}

pub(super) async fn docs_index() -> Result<Response, ApiError> {
    docs_file(Path(String::new())).await
}

/// A file of Swagger UI.
pub(super) async fn docs_file(Path(path): Path<String>) -> Result<Response, ApiError> {
    let config = utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none");
    match utoipa_swagger_ui::serve(&path, std::sync::Arc::new(config)) {
        Ok(Some(found)) => {
            let mut response = file(&found.content_type, DOCS_POLICY, found.bytes.into_owned());
            if found.gzpipped {
                let gzip = axum::http::HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            }
            Ok(response)
        }
        Ok(None) => Err(ApiError::UnknownPath { path: format!("/docs/{path}") }),
        Err(error) => {
            tracing::error!(%error, "Swagger UI");
            Err(ApiError::Internal)
        }
    }
}
