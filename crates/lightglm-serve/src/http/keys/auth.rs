//! API keys: whose a request's is, compared in constant time, and which routes that one may use.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::access::Access;
use super::quota::Left;
use super::tenant::{KeyDigest, PLAIN, Role, Tenant};
use super::tenants::{Holder, Tenants};
use crate::http::error::ApiError;
use crate::http::request_log::request_record::RequestRecord;
use crate::http::state::{AppState, unix_time};

/// Paths that probes call, which have no key.
pub(in crate::http) const OPEN: [&str; 2] = ["/health", "/ready"];

/// Headers that a key may come in beside `Authorization`: Anthropic's and Azure's clients send these.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// Makes a browser ask for the key: the password, whatever the name.
const BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"API key as password\", charset=\"UTF-8\"");

/// Whose key a request came with.
#[derive(Clone)]
pub(in crate::http) enum Caller {
    /// One without an entry: its index and its name.
    Plain(u32, Arc<str>),
    /// A tenant's.
    Tenant(Arc<Holder>),
}

impl Caller {
    pub(in crate::http) fn name(&self) -> &str {
        match self {
            Self::Plain(_, name) => name,
            Self::Tenant(holder) => &holder.tenant.name,
        }
    }

    pub(in crate::http) fn holder(&self) -> Option<&Arc<Holder>> {
        match self {
            Self::Plain(..) => None,
            Self::Tenant(holder) => Some(holder),
        }
    }

    pub(in crate::http) fn tenant(&self) -> Option<&Tenant> {
        self.holder().map(|holder| &holder.tenant)
    }

    fn role(&self) -> Role {
        self.tenant().map_or(Role::Admin, |tenant| tenant.role)
    }

    pub(in crate::http) fn fairness_key(&self) -> String {
        match self {
            Self::Plain(index, _) => format!("key:{index}"),
            Self::Tenant(holder) => format!("tenant:{}", holder.tenant.name),
        }
    }
}

/// The keys that may use the server, as digests: all of one length, and none of them the key.
pub(in crate::http) struct ApiKeys {
    plain: Vec<(KeyDigest, Arc<str>)>,
    tenants: Tenants,
}

impl ApiKeys {
    pub(in crate::http) fn new(keys: &[String], tenants: Tenants) -> Self {
        let named =
            |(index, key): (usize, &String)| (KeyDigest::of(key), format!("{PLAIN}{index}").into());
        Self { plain: keys.iter().enumerate().map(named).collect(), tenants }
    }

    pub(in crate::http) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.tenants.is_empty()
    }

    /// Compares with every key, however early one fits; a tenant's wins, for it may be the one that may less.
    fn find(&self, key: &[u8]) -> Option<Caller> {
        let presented = KeyDigest::of(key);
        let holders = self.tenants.holders();
        let plain = self.plain.iter().map(|(digest, _)| digest);
        let all = plain.chain(holders.iter().map(|holder| &holder.tenant.key));
        let (mut found, mut index) = (Choice::from(0), 0u32);
        for (candidate, number) in all.zip(0u32..) {
            let equal = candidate.0.ct_eq(&presented.0);
            index.conditional_assign(&number, equal);
            found |= equal;
        }
        if !bool::from(found) {
            return None;
        }
        let at = index as usize;
        Some(match self.plain.get(at) {
            Some((_, name)) => Caller::Plain(index, name.clone()),
            None => Caller::Tenant(holders[at - self.plain.len()].clone()),
        })
    }
}

/// Lets a request pass that has a key or needs none; whose it is goes into its extensions.
pub(in crate::http) async fn require_key(
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
    let presented = presented(request.headers());
    let refusal = match presented.iter().find_map(|key| state.keys.find(key)) {
        Some(caller) => {
            if let Some(record) = request.extensions().get::<RequestRecord>() {
                record.said(|said| said.key = Some(caller.name().to_owned()));
            }
            request.extensions_mut().insert(caller);
            return next.run(request).await;
        }
        None if presented.is_empty() => ApiError::NoKey,
        None => ApiError::WrongKey,
    };
    let mut response = refusal.into_response();
    if opens_page {
        response.headers_mut().append(header::WWW_AUTHENTICATE, BASIC);
    }
    response
}

/// Lets a request pass whose key may use the route, with what is left of its quota.
pub(in crate::http) async fn require_access(
    State((state, access)): State<(AppState, Access)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let role = caller.role();
    if !role.may(access) {
        return ApiError::Role { role: role.as_str() }.into_response();
    }
    let holder = match caller.holder() {
        Some(holder) if access == Access::Generate => holder.clone(),
        _ => return next.run(request).await,
    };
    let mut response = match holder.account.check(&holder.tenant, unix_time()) {
        Ok(()) => next.run(request).await,
        Err(overdrawn) => {
            state.metrics.reject("quota_exceeded");
            ApiError::Quota(overdrawn).into_response()
        }
    };
    if let Some(left) = holder.account.left(&holder.tenant, unix_time()) {
        tell_left(response.headers_mut(), left);
    }
    response
}

/// OpenAI's headers.
fn tell_left(headers: &mut HeaderMap, left: Left) {
    headers.insert("x-ratelimit-limit-tokens", left.limit.into());
    headers.insert("x-ratelimit-remaining-tokens", left.remaining.into());
    let reset = format!("{:?}", Duration::from_secs(left.reset));
    if let Ok(reset) = HeaderValue::try_from(reset) {
        headers.insert("x-ratelimit-reset-tokens", reset);
    }
}

/// All keys that the request has: clients send what they think is none (`Bearer none`) beside the one they mean.
fn presented(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let authorized = headers.get_all(header::AUTHORIZATION).iter().filter_map(authorization);
    let named = KEY_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    let named = named.map(|value| value.as_bytes().trim_ascii().to_vec());
    authorized.chain(named).filter(|key| !key.is_empty()).collect()
}

/// The key of `Bearer KEY`, or the password of `Basic`, which is how a browser asks for one.
fn authorization(value: &HeaderValue) -> Option<Vec<u8>> {
    let value = value.as_bytes();
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
    fn keys_are_found_by_whose_they_are() {
        let tenants = vec![
            Tenant::new("first", KeyDigest::of("three")),
            // A key of two is the one of less.
            Tenant::new("second", KeyDigest::of("two")),
        ];
        let keys = ApiKeys::new(&["one".into(), "two".into()], Tenants::new(tenants).unwrap());
        for (key, name) in [("one", "api-key-0"), ("two", "second"), ("three", "first")] {
            assert_eq!(keys.find(key.as_bytes()).unwrap().name(), name);
        }
        for wrong in ["", "tw", "two ", "onetwo"] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
