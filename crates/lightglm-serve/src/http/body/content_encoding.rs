//! `ContentEncoding`: bodies that come compressed.

use std::io::Read;

use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;

use crate::http::error::ApiError;
use crate::http::shorten::shortened;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum ContentEncoding {
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
}

impl ContentEncoding {
    /// What the headers say.
    ///
    /// # Errors
    /// [`ApiError::ContentEncoding`] where it is another one, or several.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut encoding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            for name in value.split(',').map(str::trim) {
                encoding = match (name, encoding) {
                    ("" | "identity", _) => continue,
                    ("gzip" | "x-gzip", Self::Identity) => Self::Gzip,
                    _ => return Err(ApiError::ContentEncoding { name: shortened(value.trim()) }),
                };
            }
        }
        Ok(encoding)
    }

    /// The body as it was before, `limit` bytes at most.
    ///
    /// # Errors
    /// [`ApiError::BodyTooLarge`], or [`ApiError::Gzip`] where it is damaged.
    pub(in crate::http) fn decode(self, bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, ApiError> {
        if self == Self::Identity {
            return Ok(bytes);
        }
        let mut decoded = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        MultiGzDecoder::new(bytes.as_slice())
            .take(most)
            .read_to_end(&mut decoded)
            .map_err(|error| ApiError::Gzip { reason: error.to_string() })?;
        if decoded.len() > limit {
            return Err(ApiError::BodyTooLarge { limit });
        }
        Ok(decoded)
    }
}
