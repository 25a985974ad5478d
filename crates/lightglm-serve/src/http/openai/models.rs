//! `/v1/models`.

use axum::Json;
use axum::extract::{Path, State};
use lightglm_core::MediaKind;
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::models::Resident;
use crate::http::peer::Peer;
use crate::http::shorten::shortened;
use crate::http::state::AppState;

/// A model.
#[derive(Clone, Serialize, utoipa::ToSchema)]
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
    /// The model that an alias stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// Tokens that fit into it, prompt and reply together; absent where that shows once it is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<usize>,
    /// Whether it is loaded; others are once a request names them.
    loaded: bool,
    /// What it reads; absent where that shows once it is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<Architecture>,
}

/// What a model reads, in the words of other servers.
#[derive(Clone, Serialize, utoipa::ToSchema)]
struct Architecture {
    /// `text`, then `image` or `audio` where it sees or hears.
    input_modalities: Vec<&'static str>,
}

impl Architecture {
    fn of(media: Option<MediaKind>) -> Self {
        let beside = media.map(|kind| match kind {
            MediaKind::Picture => "image",
            MediaKind::Sound => "audio",
        });
        Self { input_modalities: std::iter::once("text").chain(beside).collect() }
    }
}

/// Models.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ModelList {
    /// `list`.
    object: &'static str,
    /// Each model, its aliases, its adapters; then the encoders.
    data: Vec<Model>,
}

fn models(state: &AppState, peer: &Peer) -> Vec<Model> {
    let library = &state.library;
    let mut all = Vec::new();
    for (index, entry) in library.entries().iter().enumerate() {
        let resident = library.resident(index);
        let loaded_adapters = resident.as_ref().map(|it| it.engine.adapters()).unwrap_or_default();
        let encoder = |it: &Resident| it.media.as_ref().map(|media| media.store.encoder().kind());
        let base = Model {
            id: entry.name.clone(),
            object: "model",
            created: entry.created,
            owned_by: "lightglm",
            parent: None,
            root: None,
            max_model_len: library.max_positions(index),
            loaded: resident.is_some(),
            architecture: resident.as_ref().map(|it| Architecture::of(encoder(it))),
        };
        let alias = |id: &String| {
            let root = Some(entry.name.clone());
            Model { id: id.clone(), root, ..base.clone() }
        };
        let adapter = |id: String| {
            let (loaded, parent) = (loaded_adapters.contains(&id), Some(entry.name.clone()));
            Model { id, parent, loaded, ..base.clone() }
        };
        all.push(base.clone());
        all.extend(entry.aliases.iter().map(alias));
        all.extend(library.adapters(index).into_iter().map(adapter));
    }
    let created = library.entries().first().map_or(0, |entry| entry.created);
    all.extend(state.encoders.models().into_iter().map(|(id, most)| Model {
        id,
        object: "model",
        created,
        owned_by: "lightglm",
        parent: None,
        root: None,
        max_model_len: Some(most),
        loaded: true,
        architecture: Some(Architecture::of(None)),
    }));
    all.retain(|model| peer.sees(&model.id));
    all
}

/// All models.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses(
    (status = 200, description = "The models and the adapters", body = ModelList)
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
