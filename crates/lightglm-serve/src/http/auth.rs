//! API keys, compared in constant time.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::error::ApiError;
use super::state::AppState;

/// Paths that probes call, which have no key.
pub(super) const OPEN: [&str; 2] = ["/health", "/ready"];

/// Makes a browser ask for the key: the password, whatever the name.
const BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"API key as password\", charset=\"UTF-8\"");

/// Which key a request came with: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyIndex(pub(super) u32);

/// The keys that may use the server, as digests: all of one length, and none of them the key.
pub(super) struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    pub(super) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| digest(key.as_bytes())).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with every key, however early one fits.
    fn find(&self, key: &[u8]) -> Option<KeyIndex> {
        let presented = digest(key);
        let (mut found, mut index) = (Choice::from(0), 0u32);
        for (candidate, number) in self.0.iter().zip(0u32..) {
            let equal = candidate.ct_eq(&presented);
            index.conditional_assign(&number, equal);
            found |= equal;
        }
        bool::from(found).then_some(KeyIndex(index))
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets a request pass that has a key or needs none; the key's index goes into its extensions.
pub(super) async fn require_key(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    if state.keys.is_empty() || OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    // A browser that opens a page can ask for a password. A script's request must not make it ask.
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let opens_page = accepts.is_some_and(|accepts| accepts.contains("text/html"));
    let refusal = match presented(request.headers()).map(|key| state.keys.find(&key)) {
        Some(Some(index)) => {
            request.extensions_mut().insert(index);
            return next.run(request).await;
        }
        Some(None) => ApiError::WrongKey,
        None => ApiError::NoKey,
    };
    let mut response = refusal.into_response();
    if opens_page {
        response.headers_mut().append(header::WWW_AUTHENTICATE, BASIC);
    }
    response
}

/// The key of `Bearer KEY`, or the password of `Basic`, which is how a browser asks for one.
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..at], value[at..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let decoded = BASE64_STANDARD.decode(rest).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        return Some(decoded[colon + 1..].to_vec());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_index() {
        let keys = ApiKeys::new(&["one".into(), "two".into()]);
        assert_eq!(keys.find(b"one"), Some(KeyIndex(0)));
        assert_eq!(keys.find(b"two"), Some(KeyIndex(1)));
        for wrong in ["", "tw", "two ", "onetwo"] {
            assert_eq!(keys.find(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
