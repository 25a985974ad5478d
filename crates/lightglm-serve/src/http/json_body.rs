//! `JsonBody`: a body that is JSON, with an error that names the field where it is not what it should be.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_core::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::dialect::takes_any_type;
use super::error::ApiError;
use super::json_shape::check_shape;
use super::state::AppState;

/// A type that a body can be turned into.
pub(super) trait FromJson: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// [`ApiError::Field`] with the path of what is wrong.
    fn from_json(value: &Value) -> Result<Self, ApiError>;
}

/// Reads a value by serde.
///
/// # Errors
/// [`ApiError::Field`] with the path of what is wrong.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        // serde names a field that is missing in its words alone.
        let missing =
            reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", Some(field)) => ApiError::field(field, "it is required"),
            (".", None) => ApiError::json(reason),
            (_, Some(field)) => ApiError::field(format!("{path}.{field}"), "it is required"),
            _ => ApiError::field(path, reason),
        }
    })
}

/// The body of a request.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: FromJson> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) && !takes_any_type(&request) {
            return Err(ApiError::MediaType);
        }
        let limits = &state.config.limits;
        let bytes = bounded(request, limits.body_bytes);
        let bytes = tokio::time::timeout(limits.body_timeout, bytes)
            .await
            .map_err(|_| ApiError::BodyTimeout)??;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| ApiError::json(format!("it is not UTF-8: {error}")))?;
        check_shape(text, limits.json_depth, limits.json_values)?;
        let value = parse(text)?;
        // serde takes a list for a struct, field by field.
        if !value.is_object() {
            return Err(ApiError::json("it is not an object"));
        }
        Ok(Self(T::from_json(&value)?))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn bounded(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let mut stream = Body::into_data_stream(request.into_body());
    let mut bytes = Vec::new();
    while let Some(chunk) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        let chunk = chunk.map_err(|_| ApiError::BodyAborted)?;
        if chunk.len() > limit - bytes.len() {
            return Err(ApiError::BodyTooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse(text: &str) -> Result<Value, ApiError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value: Value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        // 1e999 is JSON and no number that a computer has: that is the field's fault.
        match reason.strip_prefix("number out of range") {
            Some(_) if path != "." => ApiError::field(path, "the number is out of range"),
            _ => ApiError::json(reason),
        }
    })?;
    parser.end().map_err(|error| ApiError::json(error.to_string()))?;
    Ok(value)
}
