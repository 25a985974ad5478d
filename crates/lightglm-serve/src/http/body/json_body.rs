//! `JsonBody`: a body that is JSON, with an error that names the field where it is not what it should be.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_core::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body_budget::{BodyBudget, GrowingBody};
use super::content_encoding::ContentEncoding;
use super::json_shape::check_shape;
use super::surrogates::replace_lone_surrogates;
use crate::http::admission::Awaited;
use crate::http::dialect::takes_any_type;
use crate::http::error::ApiError;
use crate::http::state::AppState;

/// A type that a body can be turned into.
pub(in crate::http) trait FromJson: Sized {
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
pub(in crate::http) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ApiError> {
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
pub(in crate::http) struct JsonBody<T>(pub(in crate::http) T);

impl<T: FromJson> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) && !takes_any_type(&request) {
            return Err(ApiError::MediaType);
        }
        let encoding = ContentEncoding::of(request.headers())?;
        let awaited = request.extensions_mut().remove::<Awaited>();
        let path = request.uri().path().to_owned();
        let limits = &state.config.limits;
        let most = state.config.body_limit(&path);
        let body = bounded(request, most, &state.bodies);
        let body = tokio::time::timeout(limits.body_timeout, body).await;
        let body = body.map_err(|_| ApiError::BodyTimeout)?;
        let body = body.inspect_err(|error| {
            if matches!(error, ApiError::Bodies { .. }) {
                state.metrics.reject("bodies");
            }
        })?;
        if let Some(awaited) = awaited {
            awaited.take(state)?;
        }
        // Held until it has been parsed.
        let (bytes, _held) = body.into_parts();
        let mut bytes = encoding.decode(bytes, most)?;
        replace_lone_surrogates(&mut bytes);
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| ApiError::json(format!("it is not UTF-8: {error}")))?;
        // Windows' editors and shells put one in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        check_shape(text, limits.json_depth, limits.json_values)?;
        let value = parse(text)?;
        // serde takes a list for a struct, field by field.
        if !value.is_object() {
            return Err(ApiError::json("it is not an object"));
        }
        let read = T::from_json(&value)?;
        if tracing::enabled!(tracing::Level::DEBUG) {
            let fields = state.known_fields.unknown(&path, &value);
            if !fields.is_empty() {
                tracing::debug!(?fields, "fields that are not known pass");
            }
        }
        Ok(Self(read))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

pub(in crate::http) async fn bounded(
    request: Request,
    limit: usize,
    budget: &BodyBudget,
) -> Result<GrowingBody, ApiError> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let mut stream = Body::into_data_stream(request.into_body());
    let mut body = budget.body();
    while let Some(chunk) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        let chunk = chunk.map_err(|_| ApiError::BodyAborted)?;
        if chunk.len() > limit - body.len() {
            return Err(ApiError::BodyTooLarge { limit });
        }
        body.extend(&chunk)?;
    }
    Ok(body)
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
