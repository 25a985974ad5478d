//! ModelScope's HTTP interface, the two questions of it that downloads need.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body, Timeout};

use super::settings::ModelScopeSettings;
use crate::error::HubError;
use crate::failure::Asked;
use crate::reference::HubReference;

/// A download that stands still for longer than this has broken off.
const STALLED: Duration = Duration::from_secs(60);

/// A file of a repository.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RepositoryFile {
    /// Its name, with the folders it is in.
    #[serde(rename = "Path")]
    pub(super) path: String,
    /// `blob`, or `tree` for a folder.
    #[serde(rename = "Type")]
    kind: String,
    /// Bytes.
    #[serde(rename = "Size")]
    pub(super) size: u64,
    /// In hexadecimal digits; some answers leave it out, or empty.
    #[serde(rename = "Sha256")]
    sha256: Option<String>,
}

impl RepositoryFile {
    /// The hash, where the hub knows it.
    pub(super) fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref().filter(|hash| !hash.is_empty())
    }
}

#[derive(Deserialize)]
struct Listing {
    #[serde(rename = "Data")]
    data: ListingData,
}

#[derive(Deserialize)]
struct ListingData {
    /// `null` where a repository is empty.
    #[serde(rename = "Files")]
    files: Option<Vec<RepositoryFile>>,
}

/// One repository of the hub.
pub(super) struct Client<'a> {
    agent: Agent,
    reference: &'a HubReference,
    settings: &'a ModelScopeSettings,
}

impl<'a> Client<'a> {
    pub(super) fn new(reference: &'a HubReference, settings: &'a ModelScopeSettings) -> Self {
        let config = Agent::config_builder()
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(STALLED))
            .build();
        Self { agent: config.into(), reference, settings }
    }

    /// All files of the repository.
    pub(super) fn files(&self) -> Result<Vec<RepositoryFile>, HubError> {
        let url = format!(
            "{}/api/v1/models/{}/repo/files?Revision={}&Recursive=true",
            self.settings.endpoint,
            self.reference.repository,
            encoded(&self.reference.revision)
        );
        let mut response = self.get(&url, None)?;
        let text = response.body_mut().read_to_string().map_err(|error| self.explain(error))?;
        let listing: Listing = serde_json::from_str(&text)
            .map_err(|source| HubError::BadAnswer { url, source: Box::new(source) })?;
        let files = listing.data.files.unwrap_or_default();
        Ok(files.into_iter().filter(|file| file.kind != "tree").collect())
    }

    /// The bytes of a file from `from` on, or from its start: the response's status tells.
    pub(super) fn open(&self, file: &str, from: u64) -> Result<Response<Body>, HubError> {
        let url = format!(
            "{}/models/{}/resolve/{}/{}",
            self.settings.endpoint,
            self.reference.repository,
            encoded(&self.reference.revision),
            encoded(file)
        );
        self.get(&url, Some(from))
    }

    fn get(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.settings.token {
            // ureq does not pass it on to the storage that the hub redirects to.
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            // Compressed, the bytes would not be the ones that the range counts.
            request = request.header("accept-encoding", "identity");
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
        }
        request.call().map_err(|error| self.explain(error))
    }

    /// What is asked, for errors.
    pub(super) fn asked(&self) -> Asked<'_> {
        let (endpoint, token_sent) = (&self.settings.endpoint, self.settings.token.is_some());
        Asked { endpoint, reference: self.reference, token_sent }
    }

    fn explain(&self, error: ureq::Error) -> HubError {
        match error {
            ureq::Error::StatusCode(status) => self.asked().refused(status),
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect | Timeout::RecvResponse) => {
                HubError::NoAnswer {
                    hub: self.reference.hub,
                    endpoint: self.settings.endpoint.clone(),
                    timeout: self.settings.timeout,
                }
            }
            other => self.asked().unreachable(other),
        }
    }
}

/// `text` as a part of an address: everything but letters, digits and `-._~/` as `%XX`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_addresses() {
        assert_eq!(encoded("a/b-1.0_x.gguf"), "a/b-1.0_x.gguf");
        assert_eq!(encoded("a b#?%&权"), "a%20b%23%3F%25%26%E6%9D%83");
    }
}
