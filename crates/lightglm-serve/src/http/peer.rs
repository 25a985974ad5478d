//! `Peer`: whose request it is, and what that one may ask for.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use super::error::ApiError;
use super::keys::auth::Caller;
use super::models::NamedModel;
use super::request_log::meter::Meter;
use super::request_log::request_record::RequestRecord;
use super::shorten::shortened;
use super::state::AppState;

/// Whose request it is, before its body is read.
pub(super) struct Peer {
    /// Whose key it has, where keys are asked for.
    caller: Option<Caller>,
    address: Option<SocketAddr>,
    record: RequestRecord,
}

impl FromRequestParts<AppState> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let caller = parts.extensions.get::<Caller>().cloned();
        let record = parts.extensions.get::<RequestRecord>().cloned().unwrap_or_default();
        Ok(Self { caller, address, record })
    }
}

impl Peer {
    /// The fairness key. Where there are API keys a body cannot choose another.
    pub(super) fn fairness_key(&self, user: Option<&str>) -> String {
        match (&self.caller, user, self.address) {
            (Some(caller), _, _) => caller.fairness_key(),
            (None, Some(user), _) => format!("user:{user}"),
            (None, None, Some(address)) => format!("peer:{}", address.ip()),
            (None, None, None) => "peer:".into(),
        }
    }

    /// Whether there is a model or adapter of this name for this one.
    pub(super) fn sees(&self, model: &str) -> bool {
        let tenant = self.caller.as_ref().and_then(Caller::tenant);
        let models = tenant.and_then(|tenant| tenant.models.as_ref());
        models.is_none_or(|models| models.iter().any(|name| name == model))
    }

    /// Refuses a model that this one may not use, as if there were none.
    ///
    /// # Errors
    /// [`ApiError::UnknownModel`].
    pub(super) fn check_sees(&self, model: &str) -> Result<(), ApiError> {
        match self.sees(model) {
            true => Ok(()),
            false => Err(ApiError::UnknownModel { name: shortened(model) }),
        }
    }

    /// [`AppState::named`], where what this one may not use does not exist.
    ///
    /// # Errors
    /// [`ApiError::UnknownModel`].
    pub(super) fn named(
        &self,
        state: &AppState,
        model: Option<&str>,
    ) -> Result<NamedModel, ApiError> {
        let named = state.named(model)?;
        let own = named.adapter.as_deref();
        let own = own.unwrap_or(&state.library.entries()[named.model].name);
        let asked = model.unwrap_or(own);
        // By an alias that it may use, or by the name of what that stands for.
        if !self.sees(asked) {
            self.check_sees(own).map_err(|_| ApiError::UnknownModel { name: shortened(asked) })?;
        }
        Ok(named)
    }

    /// The priority of a request that asks for `asked`: 0, or the highest that is allowed, where it does not.
    ///
    /// # Errors
    /// [`ApiError::Priority`].
    pub(super) fn priority(&self, asked: Option<i32>) -> Result<i32, ApiError> {
        let tenant = self.caller.as_ref().and_then(Caller::tenant);
        let most = tenant.and_then(|tenant| tenant.max_priority);
        match (asked, most) {
            (Some(asked), Some(most)) if asked > most => Err(ApiError::Priority { most }),
            (Some(asked), _) => Ok(asked),
            (None, most) => Ok(most.unwrap_or(0).min(0)),
        }
    }

    /// With whom prefixes are shared; see [`EngineRequest::cache_salt`](crate::engine::EngineRequest).
    pub(super) fn cache_salt(&self) -> String {
        let tenant = self.caller.as_ref().and_then(Caller::tenant);
        tenant.and_then(|tenant| tenant.cache_salt.clone()).unwrap_or_default()
    }

    /// Counts the tokens of this request, which `model` answers.
    pub(super) fn meter(&self, state: &AppState, model: &str) -> Meter {
        self.record.said(|said| said.model = Some(model.to_owned()));
        let name = self.caller.as_ref().map_or("", Caller::name);
        let holder = self.caller.as_ref().and_then(Caller::holder);
        Meter::new(self.record.clone(), holder.cloned(), state.metrics.tokens(name, model))
    }
}
