//! Tells the client what of its schemas cannot be enforced while a reply is written.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

/// Names what of the request's schemas is not enforced.
const NOT_ENFORCED: HeaderName = HeaderName::from_static("x-lightglm-not-enforced");
/// Bytes of that header.
const LONGEST: usize = 1024;

#[cfg(feature = "structured")]
pub(super) use crate::structured::loosen;

/// No schema is followed.
#[cfg(not(feature = "structured"))]
pub(super) fn loosen(_: &mut serde_json::Value, _: &str, _: bool, _: &mut Vec<String>) {}

/// Tells the client what is not enforced, in a header, and the log.
pub(in crate::http) fn tell(response: &mut Response, told: &[String]) {
    if told.is_empty() {
        return;
    }
    let mut text = told.join(", ");
    // Names of properties are the client's: what could be a line of its own in the log, or be too long, goes.
    text.retain(|character| character.is_ascii_graphic() || character == ' ');
    text.truncate(LONGEST);
    tracing::info!(not_enforced = %text, "loosened");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(NOT_ENFORCED, value);
    }
}
