//! The OpenAPI document: the types that the routes take and return, with this server's limits.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::config::ServerConfig;
use super::dialect::Dialect;
use super::error::ErrorBody;
use super::keys::access::{Access, RouteAccess};
use super::ollama::request::OllamaFields;
use super::openai::chat_reply::ChatCompletionChunk;
use super::openai::response_format::FormatFields;
use super::openai::sampling::SamplingFields;
use super::openai::thinking::ThinkingFields;
use super::router::Server;
use super::state::AppState;

/// Requests that take the fields of sampling beside their own.
const SAMPLED: [&str; 3] = ["ChatCompletionRequest", "CompletionRequest", "AnswerRequest"];

/// Requests that take the fields of formats beside their own.
const FORMATTED: [&str; 2] = ["ChatCompletionRequest", "CompletionRequest"];

/// Routes that generate.
const GENERATING: [&str; 7] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/chat",
    "/api/generate",
    "/answer",
];

/// Routes of the encoders.
const ENCODING: [&str; 2] = ["/v1/embeddings", "/v1/rerank"];

#[derive(OpenApi)]
#[openapi(
    info(title = "lightglm", description = "OpenAI's API, and a few routes more."),
    paths(
        super::openai::chat::chat,
        super::openai::completions::completions,
        super::responses::create,
        super::anthropic::messages,
        super::anthropic::count_tokens,
        super::ollama::chat,
        super::ollama::generate,
        super::ollama::tags,
        super::ollama::running,
        super::ollama::show,
        super::ollama::version,
        super::openai::models::list,
        super::openai::models::get,
        super::openai::embeddings::embeddings,
        super::encoders::rerank::rerank,
        super::openai::transcriptions::transcriptions,
        super::answer::answer,
        super::tokenize::tokenize,
        super::tokenize::detokenize,
        super::adapters::load,
        super::adapters::unload,
        super::health::health,
        super::health::ready,
        super::metrics::metrics,
        super::page::index,
        super::page::docs_index,
        openapi,
    ),
    components(schemas(
        SamplingFields,
        FormatFields,
        ThinkingFields,
        OllamaFields,
        ErrorBody,
        ChatCompletionChunk
    ))
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", responses(
    (status = 200, description = "OpenAPI", body = Object, content_type = "application/json")
))]
pub(super) async fn openapi(State(state): State<AppState>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], state.openapi.clone()).into_response()
}

/// The document of a server.
pub(super) fn document(
    config: &ServerConfig,
    vocab_size: Option<usize>,
    most_choices: usize,
) -> String {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    merge_fields(&mut document, "SamplingFields", &SAMPLED);
    merge_fields(&mut document, "FormatFields", &FORMATTED);
    merge_fields(&mut document, "ThinkingFields", &["ChatCompletionRequest"]);
    merge_fields(&mut document, "OllamaFields", &["OllamaChatRequest", "OllamaGenerateRequest"]);
    add_fields(&mut document, "CountTokensRequest", "MessagesRequest");
    state_one_answer(&mut document);
    state_limits(&mut document, config, vocab_size, most_choices);
    let paths = document.pointer_mut("/paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            state_answers(path, operation, config, access(method, path));
        }
    }
    if config.asks_for_keys() {
        document["security"] = json!([{"key": []}]);
        document["components"]["securitySchemes"] =
            json!({"key": {"type": "http", "scheme": "bearer"}});
    }
    document.to_string()
}

/// What a route asks of a key, by the router's own list.
fn access(method: &str, path: &str) -> Access {
    let named = |route: &RouteAccess| {
        route.method.eq_ignore_ascii_case(method) && route.path.replace("{*", "{") == path
    };
    Server::routes().into_iter().find(named).map_or(Access::User, |route| route.access)
}

/// Puts the properties of the schema `fields` into the requests that have them.
fn merge_fields(document: &mut Value, fields: &str, requests: &[&str]) {
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    let Some(schemas) = schemas else { return };
    let Some(fields) = schemas.remove(fields) else { return };
    let Some(properties) = fields["properties"].as_object() else { return };
    for name in requests {
        let Some(own) = schemas[*name]["properties"].as_object_mut() else { continue };
        own.extend(properties.clone());
        let required = fields["required"].as_array().into_iter().flatten().cloned();
        let required: Vec<Value> = schemas[*name]["required"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .chain(required)
            .collect();
        if !required.is_empty() {
            schemas[*name]["required"] = required.into();
        }
    }
}

/// Adds the fields of one request to another's, which are read together.
fn add_fields(document: &mut Value, from: &str, to: &str) {
    let schemas = &mut document["components"]["schemas"];
    let Some(fields) = schemas[from]["properties"].as_object().cloned() else { return };
    let required = schemas[from]["required"].as_array().cloned().unwrap_or_default();
    if let Some(own) = schemas[to]["properties"].as_object_mut() {
        own.extend(fields);
    }
    if let Some(own) = schemas[to]["required"].as_array_mut() {
        own.extend(required);
    }
}

/// A question has one answer.
fn state_one_answer(document: &mut Value) {
    document["components"]["schemas"]["AnswerRequest"]["properties"]["n"] =
        json!({"type": ["integer", "null"], "minimum": 1, "maximum": 1});
}

fn state_limits(
    document: &mut Value,
    config: &ServerConfig,
    vocab_size: Option<usize>,
    most_choices: usize,
) {
    let limits = &config.limits;
    let most_n = limits.n.min(most_choices);
    let most = |most: usize| match most {
        // Any number.
        usize::MAX => json!({}),
        most => json!({"maximum": most}),
    };
    let items = |most: usize| json!({"maxItems": most});
    let length = |most: usize| json!({"maxLength": most});
    let last_token = vocab_size.map_or(u32::MAX as usize, |size| size.saturating_sub(1));
    let (low, high) = (-limits.priority, limits.priority);
    let fields = [
        ("n", most(most_n)),
        ("max_tokens", most(limits.max_tokens)),
        ("max_completion_tokens", most(limits.max_tokens)),
        ("min_tokens", most(limits.max_tokens)),
        ("priority", json!({"minimum": low, "maximum": high})),
        ("seed", json!({"minimum": i64::MIN, "maximum": u64::MAX})),
        (
            "logit_bias",
            json!({
                "maxProperties": limits.logit_bias,
                "propertyNames": {"pattern": "^[0-9]{1,10}$"},
                "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            }),
        ),
    ];
    let own: [(&str, &str, Value); 10] = [
        ("ChatCompletionRequest", "messages", items(limits.messages)),
        ("ChatCompletionRequest", "tools", items(limits.tools)),
        ("ChatCompletionRequest", "top_logprobs", most(limits.logprobs)),
        ("ChatCompletionRequest", "guided_regex", length(limits.schema_bytes)),
        ("ChatCompletionRequest", "guided_grammar", length(limits.schema_bytes)),
        ("CompletionRequest", "logprobs", most(limits.logprobs)),
        ("CompletionRequest", "best_of", most(most_n)),
        ("CompletionRequest", "suffix", length(0)),
        ("TokenizeRequest", "messages", items(limits.messages)),
        ("TokenizeRequest", "tools", items(limits.tools)),
    ];
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    for name in SAMPLED {
        // The answer's `n` is one.
        let from = usize::from(name == "AnswerRequest");
        for (field, bounds) in &fields[from..] {
            extend(&mut schemas[name]["properties"][*field], bounds);
        }
    }
    for (name, field, bounds) in &own {
        extend(&mut schemas[*name]["properties"][*field], bounds);
    }
    extend(
        &mut schemas["DetokenizeRequest"]["properties"]["tokens"]["items"],
        &json!({"minimum": 0, "maximum": last_token}),
    );
    state_stop(schemas, limits.stop, limits.stop_bytes);
}

fn state_stop(schemas: &mut Map<String, Value>, strings: usize, bytes: usize) {
    let string = json!({"type": "string", "minLength": 1, "maxLength": bytes});
    let list = json!({"type": "array", "items": string, "maxItems": strings});
    if let Some(stop) = schemas.get_mut("Stop") {
        stop["oneOf"] = json!([string, list]);
    }
}

fn extend(schema: &mut Value, bounds: &Value) {
    if let (Some(schema), Some(bounds)) = (schema.as_object_mut(), bounds.as_object()) {
        schema.extend(bounds.clone());
    }
}

/// Adds the errors that an operation can answer with.
fn state_answers(path: &str, operation: &mut Value, config: &ServerConfig, access: Access) {
    let has_body = !operation["requestBody"].is_null();
    let open = access == Access::Open;
    if open && config.asks_for_keys() {
        operation["security"] = json!([]);
    }
    let generates = GENERATING.contains(&path);
    if generates {
        // OpenAPI 3.1 has no words for the events of a stream.
        let kind = match path.starts_with("/api/") {
            true => "application/x-ndjson",
            false => "text/event-stream",
        };
        operation["responses"]["200"]["content"][kind] = json!({});
    }
    let mut answers: Vec<(u16, &str)> = Vec::new();
    if !open && config.asks_for_keys() {
        answers.push((401, "The API key is missing or wrong"));
        answers.push((403, "The API key may not do this"));
    }
    if has_body {
        answers.extend([
            (400, "A field is wrong; `param` names it"),
            (408, "The body or the reply took too long"),
            (413, "The body is too large"),
            (415, "The body is not JSON"),
            (429, "Too many requests; `Retry-After` says when to try again"),
            (503, "The server is shutting down"),
        ]);
    }
    if generates
        || ENCODING.contains(&path)
        || path.contains("{model}")
        || path.contains("lora_adapter")
    {
        answers.push((404, "There is no such model"));
    }
    if path.ends_with("/load_lora_adapter") {
        answers.push((409, "It is loaded already"));
    }
    if open {
        answers.push((503, "Requests are not taken, or the engine has died"));
    }
    if has_body || path == "/metrics" {
        answers.push((500, "The server is at fault"));
    }
    // The other APIs have shapes of their own.
    let schema = match Dialect::of(path) {
        Dialect::OpenAi => json!({"$ref": "#/components/schemas/ErrorBody"}),
        Dialect::Anthropic | Dialect::Ollama => json!({"type": "object", "required": ["error"]}),
    };
    for (status, description) in answers {
        let mut answer = json!({
            "description": description,
            "content": {"application/json": {"schema": schema}},
        });
        if status == 429 {
            answer["headers"] =
                json!({"Retry-After": {"schema": {"type": "integer", "minimum": 1}}});
        }
        operation["responses"][status.to_string()] = answer;
    }
}
