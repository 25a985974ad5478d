//! `/v1/embeddings`.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lightglm_text::EncoderInput;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::admission::Admission;
use crate::http::body::json_body::{FromJson, JsonBody};
use crate::http::encoders::embedder::{Named, TextEmbedder};
use crate::http::encoders::encoding::{EncoderServed, TooLong, check_tokens, run};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::peer::Peer;
use crate::http::state::AppState;

/// Fields that would change the vectors, and what is said of them.
const UNMET: [(&str, &str); 7] = [
    ("input_type", "it is not supported: write the model's prompt in front of the texts"),
    ("prompt_name", "it is not supported: write the model's prompt in front of the texts"),
    ("task", "it is not supported: write the model's prompt in front of the texts"),
    ("messages", "it is not supported: texts are given as input"),
    ("embedding_types", "it is not supported: use encoding_format"),
    ("embedding_type", "it is not supported: use encoding_format"),
    ("late_chunking", "it is not supported"),
];

/// Texts that are to become vectors.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is read from the JSON, which names the place of what is wrong")]
pub(in crate::http) struct EmbeddingRequest {
    /// The embedding model's name; it may be left out.
    model: Option<String>,
    /// A text or several, or the model's own token ids of one or several, which are run as they are.
    input: EmbeddingInput,
    /// `float` (if omitted) or `base64`, which is little-endian f32.
    #[schema(schema_with = encoding_format)]
    encoding_format: Option<String>,
    /// Elements of a vector: as many as the model gives.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Whether a text that is too long loses its end, instead of being refused.
    truncate: Option<bool>,
    /// Tokens after which texts are cut off; -1 is as many as the model reads.
    #[schema(minimum = -1)]
    truncate_prompt_tokens: Option<i64>,
    /// Whoever asks.
    user: Option<String>,
}

/// What is embedded.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "see `EmbeddingRequest`")]
enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Token ids.
    Tokens(Vec<u32>),
    /// Token ids of several texts.
    TokenLists(Vec<Vec<u32>>),
}

fn encoding_format() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(["float", "base64"]))
        .build()
}

/// A request whose fields are checked as far as they do not depend on the model.
pub(in crate::http) struct Asked {
    request: Value,
    base64: bool,
}

impl FromJson for Asked {
    fn from_json(request: &Value) -> Result<Self, ApiError> {
        for (field, reason) in UNMET {
            if !request[field].is_null() {
                return Err(ApiError::field(field, reason));
            }
        }
        for field in ["model", "user"] {
            if !request[field].is_null() && !request[field].is_string() {
                return Err(ApiError::field(field, "it must be a string"));
            }
        }
        let base64 = match request["encoding_format"].as_str() {
            None if request["encoding_format"].is_null() => false,
            Some("float") => false,
            Some("base64") => true,
            _ => {
                return Err(ApiError::field("encoding_format", "it must be `float` or `base64`"));
            }
        };
        Ok(Self { request: request.clone(), base64 })
    }
}

/// One of the request's inputs.
enum Input {
    Text(String),
    Ids(Vec<u32>),
}

/// Vectors.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct EmbeddingResponse {
    /// `list`.
    object: &'static str,
    /// One for each input, in their order.
    data: Vec<Embedding>,
    /// The model's name.
    model: String,
    /// The tokens that were read.
    usage: EmbeddingUsage,
}

/// A vector.
#[derive(Serialize, utoipa::ToSchema)]
struct Embedding {
    /// `embedding`.
    object: &'static str,
    /// Which input, from 0.
    index: usize,
    /// Its elements, or their bytes in base64.
    embedding: Vector,
}

/// The elements of a vector.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
enum Vector {
    /// As numbers.
    Floats(Vec<f32>),
    /// Little-endian f32 in base64.
    Base64(String),
}

/// The tokens that were read.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct EmbeddingUsage {
    /// Of all inputs, those around the texts included; of a text that was cut, those that are left.
    pub(in crate::http) prompt_tokens: usize,
    /// The same.
    pub(in crate::http) total_tokens: usize,
}

/// The vectors of texts.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors", body = EmbeddingResponse),
        (status = 501, description = "No embedding model is served", body = ErrorBody),
    )
)]
pub(in crate::http) async fn embeddings(
    State(state): State<AppState>,
    peer: Peer,
    _: EncoderServed,
    mut admission: Admission,
    JsonBody(Asked { request, base64 }): JsonBody<Asked>,
) -> Result<Json<EmbeddingResponse>, ApiError> {
    let embedder = state.embedder(request["model"].as_str())?;
    peer.check_sees(&embedder.name)?;
    let limits = embedder.model.limits();
    if !request["dimensions"].is_null() && request["dimensions"] != limits.dimensions {
        let reason = format!("the model's vectors have {} elements", limits.dimensions);
        return Err(ApiError::field("dimensions", reason));
    }
    let too_long = TooLong::of(&request, state.config.truncate_inputs, limits.max_tokens)?;
    let given = inputs(&request["input"], state.config.limits.encoder_inputs)?;
    let bytes = given.iter().map(|(_, input)| input.bytes()).sum();
    let encoder = embedder.clone();
    let encode = move || {
        given.into_iter().map(|(param, input)| tokens(&encoder, &param, input, too_long)).collect()
    };
    let inputs: Vec<EncoderInput> = state.work_on_text(&mut admission, bytes, encode).await?;
    let tokens = check_tokens(&state, "input", &inputs)?;
    let model = embedder.name.clone();
    let meter = peer.meter(&state, &model);
    let vectors = run(&state, &mut admission, &meter, embedder, inputs).await?;
    let data = vectors.into_iter().enumerate().map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: match base64 {
            false => Vector::Floats(vector),
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Vector::Base64(BASE64_STANDARD.encode(bytes))
            }
        },
    });
    let usage = EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(Json(EmbeddingResponse { object: "list", data: data.collect(), model, usage }))
}

impl Input {
    /// Bytes of a text, or about as many as its tokens stand for.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ids(ids) => ids.len() * 4,
        }
    }
}

/// The inputs with their places in the request.
fn inputs(input: &Value, most: usize) -> Result<Vec<(String, Input)>, ApiError> {
    let wrong = |param: &str| {
        ApiError::field(param, "it must be a text, token ids, or a list of texts or of token ids")
    };
    let Value::Array(items) = input else {
        return match input {
            Value::String(text) => Ok(vec![("input".to_owned(), Input::Text(text.clone()))]),
            Value::Null => Err(ApiError::field("input", "it is required")),
            _ => Err(wrong("input")),
        };
    };
    match items.first() {
        None => return Err(ApiError::field("input", "it is empty")),
        Some(Value::Number(_)) => return Ok(vec![("input".to_owned(), ids("input", items)?)]),
        Some(_) => {}
    }
    if items.len() > most {
        return Err(ApiError::field(
            "input",
            format!("it has {} items and may have {most}", items.len()),
        ));
    }
    let one = |(index, item): (usize, &Value)| {
        let param = format!("input[{index}]");
        let input = match item {
            Value::String(text) => Input::Text(text.clone()),
            Value::Array(items) => ids(&param, items)?,
            _ => return Err(wrong(&param)),
        };
        Ok((param, input))
    };
    items.iter().enumerate().map(one).collect()
}

fn ids(param: &str, items: &[Value]) -> Result<Input, ApiError> {
    if items.is_empty() {
        return Err(ApiError::field(param, "it is empty"));
    }
    let id = |(index, item): (usize, &Value)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| ApiError::field(format!("{param}[{index}]"), "it must be a token id"))
    };
    items.iter().enumerate().map(id).collect::<Result<_, _>>().map(Input::Ids)
}

/// The tokens of an input, checked.
fn tokens(
    embedder: &Named<dyn TextEmbedder>,
    param: &str,
    input: Input,
    too_long: TooLong,
) -> Result<EncoderInput, ApiError> {
    let limits = embedder.model.limits();
    let input = match input {
        Input::Text(text) => {
            let encoded = embedder.model.encode(&text, too_long.most());
            encoded.map_err(|error| ApiError::field(param, error.to_string()))?
        }
        Input::Ids(mut ids) => {
            if let Some(at) = ids.iter().position(|id| *id as usize >= limits.vocab_size) {
                let reason = format!(
                    "it is no token of this model, whose ids are below {}: send texts, or ids of its own \
                     tokenizer",
                    limits.vocab_size
                );
                return Err(ApiError::field(format!("{param}[{at}]"), reason));
            }
            let whole_len = ids.len();
            ids.truncate(too_long.most().min(limits.max_tokens));
            EncoderInput { whole_len, ..EncoderInput::of_ids(ids) }
        }
    };
    too_long.check(param, &input)?;
    if input.ids.is_empty() {
        return Err(ApiError::field(param, "it has no tokens"));
    }
    Ok(input)
}
