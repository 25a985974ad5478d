//! What went wrong on the hub, and what to do about it.

use hf_hub::api::sync::ApiError;

use super::hub_settings::HubSettings;
use super::reference::HubReference;

/// Turns hf-hub's error into a sentence with advice.
pub(super) fn explain(
    error: &ApiError,
    reference: &HubReference,
    settings: &HubSettings,
) -> anyhow::Error {
    let endpoint = &settings.endpoint;
    match status(error) {
        Some(status @ (401 | 403)) => {
            let token = match settings.token {
                Some(_) => "the token that was sent does not give access",
                None => "no token was sent: set HF_TOKEN, or run `hf auth login`",
            };
            anyhow::anyhow!(
                "{endpoint} answers {status} for {reference}: the repository does not exist, is \
                 private, or asks you to accept its terms at {endpoint}/{} first; {token}",
                reference.repository
            )
        }
        Some(404) => anyhow::anyhow!(
            "{endpoint} answers 404 for {reference}: check the spelling of owner, name, revision \
             and file"
        ),
        Some(429) => anyhow::anyhow!(
            "{endpoint} answers 429 for {reference}: too many requests; wait, or set HF_TOKEN"
        ),
        Some(status) => anyhow::anyhow!("{endpoint} answers {status} for {reference}"),
        None => match error {
            ApiError::LockAcquisition(lock) => anyhow::anyhow!(
                "another process is downloading {reference}: wait for it (lock: {})",
                lock.display()
            ),
            ApiError::InvalidResume => anyhow::anyhow!(
                "an interrupted download of {reference} does not fit the file: delete the .part \
                 files in {}",
                settings.cache_dir.display()
            ),
            other => unreachable(&other.to_string(), settings),
        },
    }
}

/// The hub did not answer.
pub(super) fn unreachable(reason: &str, settings: &HubSettings) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is out of reach ({reason}): set HTTPS_PROXY, or HF_ENDPOINT to a mirror, or name a \
         folder or .gguf file that is here already",
        settings.endpoint
    )
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
