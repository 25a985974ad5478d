//! `ModelState`: what a request shares with all others, and the model that answers it.

use std::ops::Deref;

use super::library::NamedModel;
use super::resident::Lease;
use crate::http::admission::Admission;
use crate::http::error::ApiError;
use crate::http::peer::Peer;
use crate::http::state::{AppState, most_choices};

/// What a request shares with all others, and the model that answers it, which stays as long as this lives.
#[derive(Clone)]
pub(in crate::http) struct ModelState {
    app: AppState,
    pub(in crate::http) model: Lease,
    pub(in crate::http) adapter: Option<String>,
}

impl Deref for ModelState {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.app
    }
}

impl ModelState {
    /// What `name` names, or the default model, loaded if it was not, where `peer` may use it.
    ///
    /// # Errors
    /// [`ApiError::UnknownModel`], [`ApiError::Model`], [`ApiError::FirstUse`], and those of
    /// [`Admission::wait_for`].
    pub(in crate::http) async fn of(
        app: &AppState,
        peer: &Peer,
        admission: &mut Admission,
        name: Option<&str>,
    ) -> Result<Self, ApiError> {
        let NamedModel { model, adapter } = peer.named(app, name)?;
        let model = admission.wait_for(app.library.lease(model)).await?.map_err(ApiError::Model)?;
        let state = Self { app: app.clone(), model, adapter };
        if let Some(adapter) = state.adapter.clone()
            && !app.library.uses_adapter(&state.model, &adapter)
        {
            let own = state.clone();
            let load = move || {
                let loaded = own.library.load_adapter(&own.model, &adapter);
                loaded.map_err(ApiError::FirstUse)
            };
            let load = crate::http::state::in_turn(app.adapters.clone(), load);
            admission.wait_for(load).await??;
        }
        Ok(state)
    }

    /// The adapter's name, or the model's.
    pub(in crate::http) fn name(&self) -> &str {
        self.adapter.as_deref().unwrap_or(&self.model.name)
    }

    /// Prompts times choices of one request: what its limits and the engine's queue can ever take.
    pub(in crate::http) fn most_choices(&self) -> usize {
        most_choices(&self.config.limits, Some(&self.model.engine.limits()))
    }
}
