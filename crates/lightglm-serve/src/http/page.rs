//! The web page and the viewer of the OpenAPI document: files that are built in.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::error::ApiError;

/// Nothing from elsewhere, nothing inline; what the user attaches is shown from its own bytes.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; media-src data:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// Swagger UI sets styles from its scripts and has pictures as `data:`.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'";

const INDEX: &str = include_str!("page/index.html");

/// The files that the page names, below `/page/`.
const FILES: [(&str, &str); 22] = [
    ("answer.js", include_str!("page/answer.js")),
    ("api.js", include_str!("page/api.js")),
    ("app.js", include_str!("page/app.js")),
    ("archive.js", include_str!("page/archive.js")),
    ("attach.js", include_str!("page/attach.js")),
    ("chat.js", include_str!("page/chat.js")),
    ("conversation.js", include_str!("page/conversation.js")),
    ("dom.js", include_str!("page/dom.js")),
    ("failure.js", include_str!("page/failure.js")),
    ("icon.svg", include_str!("page/icon.svg")),
    ("inline.js", include_str!("page/inline.js")),
    ("json_text.js", include_str!("page/json_text.js")),
    ("markdown.js", include_str!("page/markdown.js")),
    ("media.js", include_str!("page/media.js")),
    ("message.js", include_str!("page/message.js")),
    ("metrics.js", include_str!("page/metrics.js")),
    ("render.js", include_str!("page/render.js")),
    ("settings.js", include_str!("page/settings.js")),
    ("sse.js", include_str!("page/sse.js")),
    ("store.js", include_str!("page/store.js")),
    ("strings.js", include_str!("page/strings.js")),
    ("style.css", include_str!("page/style.css")),
];

/// A file with headers that keep a browser from doing anything else with it.
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

/// The rest of a path; an error where it is no UTF-8, which no file's name is.
type Rest = Result<Path<String>, PathRejection>;

/// The page.
#[utoipa::path(get, path = "/", tag = "page", responses(
    (status = 200, description = "The web page", body = String, content_type = "text/html")
))]
pub(super) async fn index() -> Response {
    file("text/html; charset=utf-8", POLICY, INDEX)
}

pub(super) async fn page_file(name: Rest) -> Result<Response, ApiError> {
    let found = name.ok().and_then(|Path(name)| FILES.iter().find(|(file, _)| *file == name));
    let (name, text) =
        found.ok_or_else(|| ApiError::UnknownPath { path: "such file of the page".into() })?;
    let content_type = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "image/svg+xml",
    };
    Ok(file(content_type, POLICY, *text))
}

pub(super) async fn docs() -> Redirect {
    Redirect::permanent("/docs/")
}

/// The viewer of this document.
#[utoipa::path(get, path = "/docs/", tag = "page", responses(
    (status = 200, description = "Swagger UI", body = String, content_type = "text/html")
))]
pub(super) async fn docs_index() -> Result<Response, ApiError> {
    docs_file(Ok(Path(String::new()))).await
}

/// A file of Swagger UI.
pub(super) async fn docs_file(path: Rest) -> Result<Response, ApiError> {
    let unknown = || ApiError::UnknownPath { path: "such file of the viewer".into() };
    let Path(path) = path.map_err(|_| unknown())?;
    let config = utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none");
    match utoipa_swagger_ui::serve(&path, Arc::new(config)) {
        Ok(Some(found)) => {
            // Not copied: a thousand clients that ask for it and do not read would have a copy each.
            let mut response = file(&found.content_type, DOCS_POLICY, found.bytes);
            if found.gzpipped {
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            }
            Ok(response)
        }
        Ok(None) => Err(unknown()),
        Err(error) => {
            tracing::error!(%error, "Swagger UI");
            Err(ApiError::Internal)
        }
    }
}
