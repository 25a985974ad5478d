//! `/v1/embeddings`, which this server does not have.

use crate::http::error::{ApiError, ErrorBody};

/// This model gives no sensible embeddings.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 501, description = "There are none", body = ErrorBody))
)]
pub(in crate::http) async fn embeddings() -> ApiError {
    ApiError::Embeddings
}
