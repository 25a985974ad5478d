//! Parts of messages that are pictures and recordings.

use lightglm_core::MediaKind;
use serde::Deserialize;

use super::Detail;
use super::data_uri::{bytes_of, decoded};
use crate::http::error::ApiError;

/// A picture.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ImageUrl {
    /// `data:image/png;base64,` and the file; nothing is fetched.
    url: String,
    /// How many pixels are looked at: `low`, `high`, or `auto`, which is a page's worth.
    detail: Option<DetailField>,
}

#[derive(Deserialize, Clone, Copy, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum DetailField {
    Low,
    High,
    Auto,
}

/// A recording.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct InputAudio {
    /// The file, in base64.
    data: String,
    /// `wav`, `mp3`, `flac` or `ogg`; what is in the file decides.
    #[allow(dead_code, reason = "what is in the file decides")]
    format: Option<String>,
}

/// A file of a request that nobody has looked into.
pub(in crate::http) struct PendingMedia {
    /// The field that it came in.
    pub(in crate::http) param: String,
    pub(in crate::http) kind: MediaKind,
    pub(in crate::http) bytes: Vec<u8>,
    pub(in crate::http) detail: Detail,
}

/// The file of a part at `param`.
///
/// # Errors
/// [`ApiError::Media`].
pub(in crate::http) fn image_of(image: &ImageUrl, param: String) -> Result<PendingMedia, ApiError> {
    let detail = match image.detail {
        Some(DetailField::Low) => Detail::Low,
        Some(DetailField::High) => Detail::High,
        Some(DetailField::Auto) | None => Detail::Auto,
    };
    let param = format!("{param}.image_url.url");
    match bytes_of(&image.url, "image/") {
        Ok(bytes) => Ok(PendingMedia { param, kind: MediaKind::Picture, bytes, detail }),
        Err((code, reason)) => Err(ApiError::Media { param, code, reason: reason.to_owned() }),
    }
}

/// As [`image_of`], of a recording.
///
/// # Errors
/// [`ApiError::Media`].
pub(in crate::http) fn audio_of(
    audio: &InputAudio,
    param: String,
) -> Result<PendingMedia, ApiError> {
    let (param, detail) = (format!("{param}.input_audio.data"), Detail::Auto);
    match decoded(&audio.data) {
        Ok(bytes) => Ok(PendingMedia { param, kind: MediaKind::Sound, bytes, detail }),
        Err((code, reason)) => Err(ApiError::Media { param, code, reason: reason.to_owned() }),
    }
}
