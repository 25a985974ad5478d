//! `/v1/models`.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::peer::Peer;
use crate::http::shorten::shortened;
use crate::http::state::AppState;

/// A model.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Model {
    /// Its name in requests.
    id: String,
    /// `model`.
    object: &'static str,
    /// When it was made: seconds since 1970.
    created: u64,
    /// Who serves it.
    owned_by: &'static str,
    /// An adapter's base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Tokens that fit into it, prompt and reply together.
    max_model_len: usize,
}

/// Models.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ModelList {
    /// `list`.
    object: &'static str,
    /// The base model, then the adapters, then the encoders.
    data: Vec<Model>,
}

fn models(state: &AppState, peer: &Peer) -> Vec<Model> {
    let base = state.config.model_name.clone();
    let max_model_len = state.engine.limits().max_positions;
    let model = |id: String, parent: Option<String>| {
        let (object, owned_by, created) = ("model", "lightglm", state.config.created);
        Model { id, object, created, owned_by, parent, max_model_len }
    };
    let adapters = state.engine.adapters().into_iter();
    let adapters = adapters.map(|name| model(name, Some(base.clone())));
    let encoders = state.encoders.models().into_iter();
    let encoders = encoders.map(|(name, most)| Model { max_model_len: most, ..model(name, None) });
    let all = std::iter::once(model(base.clone(), None)).chain(adapters).chain(encoders);
    all.filter(|model| peer.sees(&model.id)).collect()
}

/// All models.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses(
    (status = 200, description = "The base model and the adapters", body = ModelList)
))]
pub(in crate::http) async fn list(State(state): State<AppState>, peer: Peer) -> Json<ModelList> {
    Json(ModelList { object: "list", data: models(&state, &peer) })
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = Model))
)]
pub(in crate::http) async fn get(
    State(state): State<AppState>,
    peer: Peer,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<Model>, ApiError> {
    // A name that is no UTF-8 is nobody's.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let found = models(&state, &peer).into_iter().find(|model| model.id == name);
    found.map(Json).ok_or_else(|| ApiError::UnknownModel { name: shortened(&name) })
}
