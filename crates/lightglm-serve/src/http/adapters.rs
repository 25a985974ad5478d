//! Adapters, loaded and unloaded by name while the server runs.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admission::Admission;
use super::body::json_body::{FromJson, JsonBody, read};
use super::error::ApiError;
use super::state::{AppState, in_turn};
use crate::engine::{AdapterError, EngineApi};

/// Characters of a name.
const LONGEST: usize = 64;

/// Which adapter. Where it lies is the server's affair: a request names no path.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct AdapterRequest {
    /// Its name, which is then a model's name in requests.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
    lora_name: String,
    /// The model that it is for; where it is absent the one that has it, else the server's own.
    model: Option<String>,
}

impl FromJson for AdapterRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let request: Self = read(value)?;
        let name = &request.lora_name;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // A leading dot would let `..` pass, which a loader may take for a folder.
        let good = !name.starts_with('.') && name.bytes().all(known);
        if name.is_empty() || name.len() > LONGEST || !good {
            let reason =
                "it must be 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', without a leading dot";
            return Err(ApiError::field("lora_name", reason));
        }
        Ok(request)
    }
}

/// What became of an adapter.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AdapterResponse {
    /// Its name.
    lora_name: String,
    /// `loaded` or `unloaded`.
    status: &'static str,
}

/// Loads an adapter.
#[utoipa::path(post, path = "/v1/load_lora_adapter", tag = "models",
    request_body = AdapterRequest, responses(
    (status = 200, description = "It is loaded", body = AdapterResponse)
))]
pub(super) async fn load(
    State(state): State<AppState>,
    admission: Admission,
    JsonBody(request): JsonBody<AdapterRequest>,
) -> Result<Json<AdapterResponse>, ApiError> {
    let lora_name = &request.lora_name;
    if state.library.named(lora_name).is_some_and(|named| named.adapter.is_none()) {
        return Err(ApiError::field("lora_name", "the base model has this name"));
    }
    change(state, admission, request, "loaded", |engine, name| engine.load_adapter(name)).await
}

/// Unloads an adapter; requests that run finish with it. It stays out until it is loaded by its name here, or the
/// server starts anew.
#[utoipa::path(post, path = "/v1/unload_lora_adapter", tag = "models",
    request_body = AdapterRequest, responses(
    (status = 200, description = "It is unloaded", body = AdapterResponse)
))]
pub(super) async fn unload(
    State(state): State<AppState>,
    admission: Admission,
    JsonBody(request): JsonBody<AdapterRequest>,
) -> Result<Json<AdapterResponse>, ApiError> {
    change(state, admission, request, "unloaded", |engine, name| engine.unload_adapter(name)).await
}

async fn change(
    state: AppState,
    mut admission: Admission,
    AdapterRequest { lora_name, model }: AdapterRequest,
    status: &'static str,
    work: impl FnOnce(&dyn EngineApi, &str) -> Result<(), AdapterError> + Send + 'static,
) -> Result<Json<AdapterResponse>, ApiError> {
    let named = match model {
        Some(model) => state.named(Some(&model))?,
        None => match state.library.named(&lora_name) {
            Some(named) => named,
            None => state.named(None)?,
        },
    };
    let (model, library) = (named.model, state.library.clone());
    let unloads = status == "unloaded";
    // What is not loaded has no adapter to lose.
    let lease = match library.resident(model) {
        None if unloads => None,
        _ => Some(admission.wait_for(library.lease(model)).await?.map_err(ApiError::Model)?),
    };
    let work = move || {
        let done = match &lease {
            Some(lease) => work(&*lease.engine, &lora_name),
            None => Err(AdapterError::NotLoaded { name: lora_name.clone() }),
        };
        // One that no request has used yet is to stay out as well.
        let known = library.adapters(model).contains(&lora_name);
        let done = match done {
            Err(AdapterError::NotLoaded { .. }) if unloads && known => Ok(()),
            done => done,
        };
        if done.is_ok() {
            library.withdraw_adapter(model, &lora_name, unloads);
        }
        match done {
            Ok(()) => {
                tracing::info!(adapter = %lora_name, status, "adapter");
                Ok(Json(AdapterResponse { lora_name, status }))
            }
            Err(error) => {
                tracing::warn!(adapter = %lora_name, %error, "adapter");
                Err(ApiError::Adapter(error))
            }
        }
    };
    admission.wait_for(in_turn(state.adapters.clone(), work)).await?
}
