//! `ApiError`: everything a request can be answered with instead of a reply, in OpenAI's shape.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lightglm_generation::{SampleError, SamplingError};
use lightglm_text::ChatTextError;
use serde::Serialize;

use super::dialect::ErrorMessage;
use super::keys::quota::Overdrawn;
use super::models::ModelFault;
use super::request_log::request_record::{Refusal, without_values};
use super::shorten::{shortened, shortened_inside};
use crate::engine::{AdapterError, EngineError, Rejection};

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("Invalid value for `{param}`: {reason}.")]
    Field { param: String, reason: String },
    /// What is wrong with a picture or a recording.
    #[error("Invalid value for `{param}`: {reason}.")]
    Media { param: String, code: &'static str, reason: String },
    #[error("The body is not valid JSON: {reason}.")]
    Json { reason: String },
    #[error("The Content-Type must be application/json.")]
    MediaType,
    #[error("The Content-Encoding `{name}` is not supported: gzip is, and none.")]
    ContentEncoding { name: String },
    #[error("The body is not valid gzip: {reason}.")]
    Gzip { reason: String },
    #[error("The request's Host is wrong: {reason}.")]
    Host { reason: String },
    #[error(
        "This server does not answer to the host `{host}`. Whoever runs it can allow that: \
         --allowed-host {host}"
    )]
    ForeignHost { host: String },
    #[error("All connections are in use; only /health and /ready are answered here.")]
    NoPlace,
    #[error("There is no {path} on this port: it has {here}.")]
    NotHere { path: String, here: String },
    #[error("The bodies of other requests take {limit} bytes already, which is the limit.")]
    Bodies { limit: usize },
    #[error("The body is larger than {limit} bytes.")]
    BodyTooLarge { limit: usize },
    #[error("The body did not arrive in time.")]
    BodyTimeout,
    #[error("The request took too long.")]
    Timeout,
    #[error("The body ended early.")]
    BodyAborted,
    #[error("No API key was given. Send it as `Authorization: Bearer KEY`.")]
    NoKey,
    #[error("The API key is wrong.")]
    WrongKey,
    #[error("A key of the role `{role}` may not do this.")]
    Role { role: &'static str },
    #[error("Invalid value for `priority`: this key may ask for at most {most}.")]
    Priority { most: i32 },
    #[error("This key has used its {} tokens a {}.", .0.tokens, .0.per)]
    Quota(Overdrawn),
    #[error("The model `{name}` does not exist.")]
    UnknownModel { name: String },
    #[error("There is no {path} here.")]
    UnknownPath { path: String },
    #[error(
        "Nothing is stored here: a response is in the answer to its request, and nowhere else."
    )]
    NotStored,
    #[error("There is no {path} here: use {meant}.")]
    OtherPath { path: String, meant: String },
    #[error("{path} does not know the method {method}.")]
    Method { method: String, path: String },
    #[error("The server works on {limit} requests already, which is its limit.")]
    Concurrency { limit: usize },
    #[error("The request was not accepted: {rejection}.")]
    Rejected { rejection: Rejection, prompt_param: &'static str },
    #[error("{param} is not supported by this server: {reason}.")]
    Unsupported { param: String, reason: &'static str },
    #[error(
        "No embedding model is served: the language model is trained to continue text. The server needs \
         --embedding-model, or --rerank-model for /v1/rerank."
    )]
    Embeddings,
    #[error(
        "`{param}` has {tokens} tokens and the model reads {most}: shorten it, or have its end cut off by \
         `\"truncate\": true`."
    )]
    InputTooLong { param: String, tokens: usize, most: usize },
    #[error("{0}.")]
    Adapter(AdapterError),
    /// As before, where a request uses an adapter that is not loaded yet.
    #[error("{0}.")]
    FirstUse(AdapterError),
    #[error("{0}.")]
    Model(ModelFault),
    #[error("The request failed: {0}.")]
    Engine(EngineError),
    #[error("The server is shutting down.")]
    ShuttingDown,
    #[error("The engine does not run.")]
    EngineDead,
    #[error("Something went wrong in the server; its log has the details.")]
    Internal,
}

impl ApiError {
    /// A field that is wrong. Both texts may have something in them that the client sent.
    pub(super) fn field(param: impl AsRef<str>, reason: impl Into<String>) -> Self {
        Self::Field { param: shortened(param.as_ref()), reason: shortened_inside(reason.into()) }
    }

    /// A body that is no JSON, or not such as is wanted.
    pub(super) fn json(reason: impl Into<String>) -> Self {
        Self::Json { reason: shortened_inside(reason.into()) }
    }

    /// A sampling parameter that is wrong.
    pub(super) fn sampling(error: &SamplingError) -> Self {
        match error {
            SamplingError::OutOfRange { field, range, .. } => {
                Self::field(*field, format!("it must be {range}"))
            }
            SamplingError::TokenOutOfRange { field, token, vocab_size } => {
                Self::field(*field, format!("token {token} is not below {vocab_size}"))
            }
            other => Self::field("stop", other.to_string()),
        }
    }

    /// A text that did not become tokens.
    pub(super) fn text(param: &str, error: &ChatTextError) -> Self {
        match error {
            // A message or a tool of the request, in the place it has there.
            ChatTextError::NotInPrompt { field } if param == "messages" => {
                Self::field(field, "the model's chat template leaves it out")
            }
            ChatTextError::NotAVariable { name, reason } if param == "messages" => {
                Self::field(format!("chat_template_kwargs.{name}"), format!("it {reason}"))
            }
            _ => Self::field(param, error.to_string()),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Field { .. } | Self::Media { .. } | Self::Json { .. } | Self::BodyAborted => {
                StatusCode::BAD_REQUEST
            }
            Self::Unsupported { .. }
            | Self::InputTooLong { .. }
            | Self::Host { .. }
            | Self::Gzip { .. } => StatusCode::BAD_REQUEST,
            Self::ForeignHost { .. } => StatusCode::FORBIDDEN,
            Self::NotHere { .. } => StatusCode::NOT_FOUND,
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::UnknownModel { .. }
            | Self::UnknownPath { .. }
            | Self::OtherPath { .. }
            | Self::NotStored => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout | Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType | Self::ContentEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Concurrency { .. } | Self::Bodies { .. } | Self::Quota(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Role { .. } | Self::Priority { .. } => StatusCode::FORBIDDEN,
            Self::Rejected { rejection, .. } => rejected(rejection),
            Self::Embeddings => StatusCode::NOT_IMPLEMENTED,
            Self::Adapter(AdapterError::NotLoaded { .. }) => StatusCode::NOT_FOUND,
            Self::Adapter(AdapterError::AlreadyLoaded { .. }) => StatusCode::CONFLICT,
            Self::Adapter(_) | Self::FirstUse(_) => StatusCode::BAD_REQUEST,
            Self::Model(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(error) => failed(error),
            Self::ShuttingDown | Self::EngineDead | Self::NoPlace => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Somebody has to look at it. What this server does not do, and that it ends, is no fault.
    fn is_fault(&self) -> bool {
        match self {
            Self::Embeddings
            | Self::Model(_)
            | Self::NoPlace
            | Self::ShuttingDown
            | Self::Rejected { rejection: Rejection::Draining, .. } => false,
            other => other.status().is_server_error(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Field { .. } => "invalid_value",
            Self::Media { code, .. } => code,
            Self::Json { .. } => "invalid_json",
            Self::MediaType => "unsupported_media_type",
            Self::ContentEncoding { .. } => "unsupported_content_encoding",
            Self::Gzip { .. } => "invalid_gzip",
            Self::Host { .. } => "invalid_host",
            Self::ForeignHost { .. } => "host_not_allowed",
            Self::NoPlace => "connection_limit",
            Self::Bodies { .. } => "concurrency_limit",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTimeout
            | Self::Timeout
            | Self::Engine(EngineError::DeadlinePassed { .. }) => "timeout",
            Self::NoKey => "missing_api_key",
            Self::WrongKey => "invalid_api_key",
            Self::Role { .. } => "role_not_allowed",
            Self::Priority { .. } => "priority_not_allowed",
            Self::Quota(_) => "quota_exceeded",
            Self::UnknownModel { .. } => "model_not_found",
            Self::UnknownPath { .. }
            | Self::OtherPath { .. }
            | Self::NotHere { .. }
            | Self::NotStored => "not_found",
            Self::Method { .. } => "method_not_allowed",
            Self::Concurrency { .. } => "concurrency_limit",
            Self::Rejected { rejection, .. } => match rejection {
                Rejection::QueueFull { .. } => "queue_full",
                Rejection::KeyLimit { .. } => "key_limit",
                Rejection::Draining => "shutting_down",
                Rejection::UnknownModel { .. } => "model_not_found",
                Rejection::PromptTooLong { .. } => "context_length_exceeded",
                _ => "invalid_value",
            },
            Self::Unsupported { .. } | Self::Embeddings => "unsupported",
            Self::InputTooLong { .. } => "context_length_exceeded",
            Self::Adapter(AdapterError::NotLoaded { .. }) => "adapter_not_loaded",
            Self::Adapter(AdapterError::AlreadyLoaded { .. }) => "adapter_already_loaded",
            Self::Adapter(_) | Self::FirstUse(_) => "adapter_not_loadable",
            Self::Model(ModelFault::Load { .. }) => "model_not_loadable",
            Self::Model(ModelFault::Memory(_)) => "model_memory",
            Self::ShuttingDown => "shutting_down",
            Self::BodyAborted | Self::Engine(_) | Self::EngineDead | Self::Internal => return None,
        })
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::Field { param, .. }
            | Self::Media { param, .. }
            | Self::Unsupported { param, .. }
            | Self::InputTooLong { param, .. } => Some(param.clone()),
            Self::UnknownModel { .. } | Self::FirstUse(_) | Self::Model(_) => Some("model".into()),
            Self::Priority { .. } => Some("priority".into()),
            Self::Adapter(_) => Some("lora_name".into()),
            Self::Rejected { rejection, prompt_param } => match rejection {
                Rejection::UnknownModel { .. } => Some("model".into()),
                Rejection::EmptyPrompt
                | Rejection::PromptTooLong { .. }
                | Rejection::UnknownToken { .. } => Some((*prompt_param).into()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whole seconds, at least one.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Concurrency { .. } | Self::Bodies { .. } | Self::NoPlace => Some(1),
            Self::Quota(overdrawn) => Some(overdrawn.retry_after.max(1)),
            Self::Rejected {
                rejection:
                    Rejection::QueueFull { retry_after, .. } | Rejection::KeyLimit { retry_after, .. },
                ..
            } => Some((retry_after.as_secs_f64().ceil() as u64).max(1)),
            Self::ShuttingDown | Self::Rejected { rejection: Rejection::Draining, .. } => Some(1),
            Self::Model(fault) => fault.may_pass().then_some(5),
            _ => None,
        }
    }

    /// The body, which is also what a stream says when it fails halfway.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                message: self.message(),
                kind: self.kind().to_owned(),
                param: self.param(),
                code: self.code().map(str::to_owned),
            },
        }
    }

    /// What the log says of it.
    pub(super) fn refusal(&self) -> Refusal {
        let reason = without_values(&self.message());
        Refusal { code: self.code(), param: self.param(), reason }
    }

    /// What the client is told.
    pub(super) fn message(&self) -> String {
        match self {
            // What a loader or a model says may name files of the machine: that is for the log.
            Self::Adapter(AdapterError::Failed { name, .. })
            | Self::FirstUse(AdapterError::Failed { name, .. }) => {
                format!("The adapter `{name}` cannot be loaded; the server's log says why.")
            }
            Self::Engine(error) if failed(error).is_server_error() => Self::Internal.to_string(),
            other => other.to_string(),
        }
    }
}

fn rejected(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::QueueFull { .. } | Rejection::KeyLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
        Rejection::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Rejection::UnknownModel { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn failed(error: &EngineError) -> StatusCode {
    match error {
        EngineError::DeadlinePassed { .. } => StatusCode::REQUEST_TIMEOUT,
        // The request's own bans or grammar left nothing to say.
        EngineError::Sample(SampleError::NothingToSample | SampleError::Processor(_)) => {
            StatusCode::BAD_REQUEST
        }
        EngineError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if self.is_fault() {
            tracing::error!(error = ?self, "request failed");
        }
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::ContentEncoding { .. }) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // OpenAI's clients repeat a 408 by themselves; the same request would take as long again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        let said = axum::Extension(ErrorMessage(self.message()));
        let refusal = axum::Extension(self.refusal());
        (status, headers, said, refusal, axum::Json(self.body())).into_response()
    }
}

/// An error, as OpenAI's clients expect it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ErrorBody {
    /// The error.
    error: ErrorObject,
}

/// What went wrong.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ErrorObject {
    /// In words.
    message: String,
    /// Its kind.
    #[serde(rename = "type")]
    kind: String,
    /// The field of the request that is wrong.
    #[schema(required)]
    param: Option<String>,
    /// For programs.
    #[schema(required)]
    code: Option<String>,
}
