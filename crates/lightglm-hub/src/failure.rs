//! What a hub's refusal means; the two hubs use the same statuses.

use std::error::Error;

use crate::error::HubError;
use crate::reference::HubReference;

/// A hub at an address, and whether it knows who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) reference: &'a HubReference,
    pub(crate) token_sent: bool,
}

impl Asked<'_> {
    /// The hub answered with an HTTP status that is no success.
    pub(crate) fn refused(&self, status: u16) -> HubError {
        let (endpoint, reference) = (self.endpoint.to_owned(), self.reference.clone());
        match status {
            401 | 403 => {
                let token_sent = self.token_sent;
                HubError::AccessDenied { endpoint, reference, status, token_sent }
            }
            404 => HubError::NotFound { endpoint, reference },
            429 => HubError::TooManyRequests { endpoint, reference },
            _ => HubError::Status { endpoint, reference, status },
        }
    }

    /// The hub did not answer, or stopped in the middle.
    pub(crate) fn unreachable(&self, source: impl Error + Send + Sync + 'static) -> HubError {
        HubError::OutOfReach {
            hub: self.reference.hub,
            endpoint: self.endpoint.to_owned(),
            source: Box::new(source),
        }
    }
}
