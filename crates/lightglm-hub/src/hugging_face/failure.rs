//! What hf-hub's errors mean.

use hf_hub::api::sync::ApiError;

use super::settings::HuggingFaceSettings;
use crate::error::HubError;
use crate::failure::Asked;
use crate::reference::HubReference;

/// What is asked of the hub.
pub(super) fn asked<'a>(
    reference: &'a HubReference,
    settings: &'a HuggingFaceSettings,
) -> Asked<'a> {
    Asked { endpoint: &settings.endpoint, reference, token_sent: settings.token.is_some() }
}

/// Turns hf-hub's error into one that says what to do.
pub(super) fn explain(
    error: ApiError,
    reference: &HubReference,
    settings: &HuggingFaceSettings,
) -> HubError {
    if let Some(status) = status(&error) {
        return asked(reference, settings).refused(status);
    }
    let reference = reference.clone();
    match error {
        ApiError::LockAcquisition(lock) => HubError::Busy { reference, lock },
        ApiError::InvalidResume => {
            HubError::BrokenResume { reference, cache: settings.cache_dir.clone() }
        }
        other => asked(&reference, settings).unreachable(other),
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(last) => status(last),
        _ => None,
    }
}
