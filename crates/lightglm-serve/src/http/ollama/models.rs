//! The models by Ollama's API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use lightglm_text::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::request::known_model;
use super::time::written;
use crate::http::admission::Admission;
use crate::http::body::json_body::{FromJson, JsonBody, read};
use crate::http::error::ApiError;
use crate::http::models::{ModelBytes, NamedModel};
use crate::http::peer::Peer;
use crate::http::state::AppState;

/// The version of Ollama whose API this is: tools ask for it and refuse older ones.
const VERSION: &str = "0.12.6";
/// Of models that stay: no client lives to see it.
const NEVER: &str = "2318-04-04T00:00:00Z";

/// A model of the list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OllamaModel {
    /// Its name in requests.
    name: String,
    /// The same.
    model: String,
    /// When it was made.
    modified_at: String,
    /// Bytes of weights, keys and values; 0 where it is not known yet.
    size: u64,
    /// SHA-256 of its name: models of one name are the same here.
    digest: String,
    /// About it.
    details: OllamaDetails,
    /// In the list of what is loaded: when it leaves if nobody uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// In the list of what is loaded: bytes on a GPU; 0, for it is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_vram: Option<u64>,
}

/// About a model.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OllamaDetails {
    /// An adapter's base model.
    parent_model: String,
    /// Not known here.
    format: String,
    /// Not known here.
    family: String,
    /// Not known here.
    families: Vec<String>,
    /// Not known here.
    parameter_size: String,
    /// Not known here.
    quantization_level: String,
}

/// Models.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct OllamaModels {
    /// Each model, its aliases, its adapters.
    models: Vec<OllamaModel>,
}

/// Which model is to be shown.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct ShowRequest {
    /// Its name; `:latest` behind it says nothing.
    model: Option<String>,
    /// The same, by its older name.
    name: Option<String>,
    /// Whether more is told: there is no more.
    #[allow(dead_code, reason = "part of the protocol")]
    verbose: Option<bool>,
}

/// What is known of a model.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ShownModel {
    /// About it.
    details: OllamaDetails,
    /// Its architecture's name and its context's length.
    #[schema(value_type = Object)]
    model_info: Map<String, Value>,
    /// What it can: `completion`, `tools`, `thinking`.
    capabilities: Vec<&'static str>,
    /// When it was made.
    modified_at: String,
}

/// A version.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct OllamaVersion {
    /// Of Ollama's API.
    version: &'static str,
}

impl FromJson for ShowRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        read(value)
    }
}

fn details(parent_model: String) -> OllamaDetails {
    OllamaDetails {
        parent_model,
        format: String::new(),
        family: String::new(),
        families: Vec::new(),
        parameter_size: String::new(),
        quantization_level: String::new(),
    }
}

fn modified_at(state: &AppState, model: usize) -> String {
    written(Duration::from_secs(state.library.entries()[model].created))
}

fn model(state: &AppState, index: usize, name: String, parent: String) -> OllamaModel {
    OllamaModel {
        model: name.clone(),
        modified_at: modified_at(state, index),
        size: state.library.bytes(index).map_or(0, ModelBytes::total),
        digest: Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
        details: details(parent),
        name,
        expires_at: None,
        size_vram: None,
    }
}

fn seen(peer: &Peer, mut models: Vec<OllamaModel>) -> Json<OllamaModels> {
    models.retain(|model| peer.sees(&model.name));
    Json(OllamaModels { models })
}

/// All models, by Ollama's API.
#[utoipa::path(get, path = "/api/tags", tag = "ollama", responses(
    (status = 200, description = "The models and the adapters", body = OllamaModels)
))]
pub(in crate::http) async fn tags(State(state): State<AppState>, peer: Peer) -> Json<OllamaModels> {
    let mut models = Vec::new();
    for (index, entry) in state.library.entries().iter().enumerate() {
        let base = std::iter::once((entry.name.clone(), String::new()));
        let aliases = entry.aliases.iter().map(|alias| (alias.clone(), String::new()));
        let adapters = state.library.adapters(index).into_iter();
        let adapters = adapters.map(|adapter| (adapter, entry.name.clone()));
        let all = base.chain(aliases).chain(adapters);
        models.extend(all.map(|(name, parent)| model(&state, index, name, parent)));
    }
    seen(&peer, models)
}

/// The models that are loaded, by Ollama's API.
#[utoipa::path(get, path = "/api/ps", tag = "ollama", responses(
    (status = 200, description = "The models and the adapters", body = OllamaModels)
))]
pub(in crate::http) async fn running(
    State(state): State<AppState>,
    peer: Peer,
) -> Json<OllamaModels> {
    let mut models = Vec::new();
    for (index, entry) in state.library.entries().iter().enumerate() {
        let Some(resident) = state.library.resident(index) else { continue };
        let leaves = state.library.unload_after(index).map(|after| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            written((now + after).saturating_sub(resident.idle_for()))
        });
        let expires_at = leaves.unwrap_or_else(|| NEVER.to_owned());
        let base = std::iter::once((entry.name.clone(), String::new()));
        let adapters = resident.engine.adapters().into_iter();
        let all = base.chain(adapters.map(|adapter| (adapter, entry.name.clone())));
        models.extend(all.map(|(name, parent)| OllamaModel {
            expires_at: Some(expires_at.clone()),
            size_vram: Some(0),
            ..model(&state, index, name, parent)
        }));
    }
    seen(&peer, models)
}

/// The version of Ollama's API.
#[utoipa::path(get, path = "/api/version", tag = "ollama", responses(
    (status = 200, description = "The version", body = OllamaVersion)
))]
pub(in crate::http) async fn version() -> Json<OllamaVersion> {
    Json(OllamaVersion { version: VERSION })
}

/// What is known of a model, by Ollama's API.
#[utoipa::path(post, path = "/api/show", tag = "ollama", request_body = ShowRequest, responses(
    (status = 200, description = "What is known", body = ShownModel)
))]
pub(in crate::http) async fn show(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    JsonBody(request): JsonBody<ShowRequest>,
) -> Result<Json<ShownModel>, ApiError> {
    let Some(name) = request.model.or(request.name) else {
        return Err(ApiError::field("model", "it is required"));
    };
    let name = known_model(&name, &state, &peer)?;
    let NamedModel { model, adapter } = state.named(Some(&name))?;
    let parent = match adapter {
        Some(_) => state.library.entries()[model].name.clone(),
        None => String::new(),
    };
    // What is asked of every model in turn loads none.
    let library = state.library.clone();
    let read = move || library.text(model).map_err(ApiError::Model);
    let text = state.work_on_text(&mut admission, usize::MAX, read).await?;
    let mut capabilities = vec!["completion"];
    let tool = json!({"type": "function", "function": {
        "name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}}});
    if text.encode_chat(&[Message::user("a")], &[tool]).is_ok() {
        capabilities.push("tools");
    }
    if text.thinks() {
        capabilities.push("thinking");
    }
    let mut model_info = Map::new();
    model_info.insert("general.architecture".into(), "lightglm".into());
    model_info.insert("general.basename".into(), name.into());
    if let Some(room) = state.library.max_positions(model) {
        model_info.insert("lightglm.context_length".into(), room.into());
    }
    let modified_at = modified_at(&state, model);
    Ok(Json(ShownModel { details: details(parent), model_info, capabilities, modified_at }))
}
