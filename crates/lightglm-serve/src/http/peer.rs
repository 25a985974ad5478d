//! `Peer`: whose request it is.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use super::auth::KeyIndex;
use super::state::AppState;

/// Whose request it is, before its body is read.
pub(super) struct Peer {
    key: Option<KeyIndex>,
    address: Option<SocketAddr>,
}

impl FromRequestParts<AppState> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        Ok(Self { key: parts.extensions.get::<KeyIndex>().copied(), address })
    }
}

impl Peer {
    /// The fairness key. Where there are API keys a body cannot choose another.
    pub(super) fn fairness_key(&self, user: Option<&str>) -> String {
        match (self.key, user, self.address) {
            (Some(KeyIndex(index)), _, _) => format!("key:{index}"),
            (None, Some(user), _) => format!("user:{user}"),
            (None, None, Some(address)) => format!("peer:{}", address.ip()),
            (None, None, None) => "peer:".into(),
        }
    }
}
