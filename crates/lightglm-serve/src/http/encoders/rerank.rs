//! `/v1/rerank`: documents in the order in which they answer a query, in Jina's and Cohere's shape.

use axum::Json;
use axum::extract::State;
use lightglm_core::cosine;
use lightglm_text::EncoderInput;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::embedder::{Named, TextEmbedder, TextReranker};
use super::encoding::{EncoderServed, TooLong, check_tokens, run};
use crate::http::admission::Admission;
use crate::http::body::json_body::{FromJson, JsonBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::openai::embeddings::EmbeddingUsage;
use crate::http::peer::Peer;
use crate::http::shorten::shortened;
use crate::http::state::AppState;

/// Fields that would change the scores, and what is said of them.
const UNMET: [(&str, &str); 6] = [
    ("rank_fields", "it is not supported: documents are texts"),
    ("max_chunks_per_doc", "it is not supported: cut documents before they are sent"),
    ("max_tokens_per_doc", "it is not supported: use truncate"),
    ("instruction", "it is not supported"),
    ("truncate_prompt_tokens", "it is not supported: use truncate"),
    ("return_embeddings", "it is not supported"),
];

/// More than a token has on average, in any language.
const BYTES_PER_TOKEN: usize = 8;

/// A query and the documents that may answer it.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is read from the JSON, which names the place of what is wrong")]
pub(in crate::http) struct RerankRequest {
    /// The name of the model that scores; it may be left out.
    model: Option<String>,
    /// What is looked for.
    query: String,
    /// Texts, or objects with a `text`.
    documents: Vec<RerankDocument>,
    /// As many of the best are returned; all if omitted.
    #[schema(minimum = 1)]
    top_n: Option<usize>,
    /// Whether the documents are returned with their scores; they are not if omitted.
    return_documents: Option<bool>,
    /// Whether a text that is too long loses its end, instead of being refused.
    truncate: Option<bool>,
}

/// A document.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "see `RerankRequest`")]
enum RerankDocument {
    /// A text.
    Text(String),
    /// A text in an object.
    Object {
        /// The text.
        text: String,
    },
}

/// A request whose fields are checked.
pub(in crate::http) struct Asked {
    request: Value,
    query: String,
    documents: Vec<String>,
    top_n: usize,
    return_documents: bool,
}

impl FromJson for Asked {
    fn from_json(request: &Value) -> Result<Self, ApiError> {
        for (field, reason) in UNMET {
            if !request[field].is_null() {
                return Err(ApiError::field(field, reason));
            }
        }
        if !request["model"].is_null() && !request["model"].is_string() {
            return Err(ApiError::field("model", "it must be a string"));
        }
        let query = match &request["query"] {
            Value::String(query) => query.clone(),
            Value::Null => return Err(ApiError::field("query", "it is required")),
            _ => return Err(ApiError::field("query", "it must be a text")),
        };
        let documents = match &request["documents"] {
            Value::Null => return Err(ApiError::field("documents", "it is required")),
            Value::Array(items) if items.is_empty() => {
                return Err(ApiError::field("documents", "it is empty"));
            }
            Value::Array(items) => {
                items.iter().enumerate().map(document).collect::<Result<_, _>>()?
            }
            _ => return Err(ApiError::field("documents", "it must be a list")),
        };
        let top_n = match &request["top_n"] {
            Value::Null => usize::MAX,
            value => {
                let most = value.as_u64().filter(|most| *most > 0);
                let most = most.ok_or_else(|| ApiError::field("top_n", "it must be at least 1"))?;
                usize::try_from(most).unwrap_or(usize::MAX)
            }
        };
        let return_documents = match &request["return_documents"] {
            Value::Null => false,
            Value::Bool(wanted) => *wanted,
            _ => return Err(ApiError::field("return_documents", "it must be true or false")),
        };
        Ok(Self { request: request.clone(), query, documents, top_n, return_documents })
    }
}

fn document((index, item): (usize, &Value)) -> Result<String, ApiError> {
    let text = item.as_str().or_else(|| item["text"].as_str());
    let wrong = || ApiError::field(format!("documents[{index}]"), "it must be a text");
    text.map(str::to_owned).ok_or_else(wrong)
}

/// Documents, the best first.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct RerankResponse {
    /// The request's name.
    id: String,
    /// The model's name.
    model: String,
    /// How scores are made: `cross-encoder`, or `cosine` of the vectors of an embedding model.
    scoring: &'static str,
    /// The best first.
    results: Vec<RerankResult>,
    /// The tokens that were read.
    usage: EmbeddingUsage,
}

/// A document and its score.
#[derive(Serialize, utoipa::ToSchema)]
struct RerankResult {
    /// Which document, from 0.
    index: usize,
    /// The larger, the better: from 0 to 1 for most cross-encoders, from -1 to 1 for a cosine.
    relevance_score: f32,
    /// The document, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<RerankedText>,
}

/// A document's text.
#[derive(Serialize, utoipa::ToSchema)]
struct RerankedText {
    /// The text.
    text: String,
}

/// What scores.
enum Scorer {
    Cross(Named<dyn TextReranker>),
    Cosine(Named<dyn TextEmbedder>),
}

impl Scorer {
    /// The model of this name, or the one there is: a cross-encoder before an embedding model.
    fn of(state: &AppState, model: Option<&str>) -> Result<Self, ApiError> {
        let encoders = &state.encoders;
        let reranker =
            encoders.reranker.clone().filter(|one| model.is_none_or(|name| name == one.name));
        if let Some(reranker) = reranker {
            return Ok(Self::Cross(reranker));
        }
        match (&encoders.embedder, &encoders.reranker, model) {
            (None, Some(_), Some(name)) => Err(ApiError::UnknownModel { name: shortened(name) }),
            _ => state.embedder(model).map(Self::Cosine),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Cross(named) => &named.name,
            Self::Cosine(named) => &named.name,
        }
    }

    fn max_tokens(&self) -> usize {
        match self {
            Self::Cross(named) => named.model.limits().max_tokens,
            Self::Cosine(named) => named.model.limits().max_tokens,
        }
    }

    /// What is run: a pair for each document, or the query and then the documents.
    fn inputs(
        &self,
        query: &str,
        documents: &[String],
        too_long: TooLong,
    ) -> Result<Vec<EncoderInput>, ApiError> {
        let of_document = |index: usize| format!("documents[{index}]");
        match self {
            Self::Cross(named) => {
                let input = |(index, document): (usize, &String)| {
                    let param = of_document(index);
                    let input = named.model.encode(query, document);
                    let input =
                        input.map_err(|error| ApiError::field(&param, error.to_string()))?;
                    too_long.check(&param, &input)?;
                    Ok(input)
                };
                documents.iter().enumerate().map(input).collect()
            }
            Self::Cosine(named) => {
                let query = std::iter::once(("query".to_owned(), query));
                let documents = documents.iter().enumerate();
                let documents = documents.map(|(index, text)| (of_document(index), text.as_str()));
                let input = |(param, text): (String, &str)| {
                    let input = named.model.encode(text, too_long.most());
                    let input =
                        input.map_err(|error| ApiError::field(&param, error.to_string()))?;
                    too_long.check(&param, &input)?;
                    Ok(input)
                };
                query.chain(documents).map(input).collect()
            }
        }
    }
}

/// Documents in the order in which they answer a query.
#[utoipa::path(post, path = "/v1/rerank", tag = "openai", request_body = RerankRequest,
    responses(
        (status = 200, description = "The documents, the best first", body = RerankResponse),
        (status = 501, description = "No model is served that scores", body = ErrorBody),
    )
)]
pub(in crate::http) async fn rerank(
    State(state): State<AppState>,
    peer: Peer,
    _: EncoderServed,
    mut admission: Admission,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Json<RerankResponse>, ApiError> {
    let scorer = Scorer::of(&state, asked.request["model"].as_str())?;
    peer.check_sees(scorer.name())?;
    let most = state.config.limits.encoder_inputs;
    if asked.documents.len() > most {
        let reason = format!("it has {} items and may have {most}", asked.documents.len());
        return Err(ApiError::field("documents", reason));
    }
    let too_long = TooLong::of(&asked.request, state.config.truncate_inputs, scorer.max_tokens())?;
    let Asked { query, documents, top_n, return_documents, .. } = asked;
    // A pair is read for each document, the query each time.
    let most = state.config.limits.encoder_tokens.saturating_mul(BYTES_PER_TOKEN);
    let queries = query.len().saturating_mul(documents.len());
    if queries > most {
        let reason = format!("{queries} bytes with all documents, and the limit is {most}");
        return Err(ApiError::field("query", reason));
    }
    let bytes = queries + documents.iter().map(String::len).sum::<usize>();
    let encode = move || {
        let inputs = scorer.inputs(&query, &documents, too_long)?;
        Ok((scorer, documents, inputs))
    };
    let (scorer, documents, inputs) = state.work_on_text(&mut admission, bytes, encode).await?;
    let tokens = check_tokens(&state, "documents", &inputs)?;
    let model = scorer.name().to_owned();
    let meter = peer.meter(&state, &model);
    let (scoring, scores) = match scorer {
        Scorer::Cross(named) => {
            ("cross-encoder", run(&state, &mut admission, &meter, named, inputs).await?)
        }
        Scorer::Cosine(named) => {
            let vectors = run(&state, &mut admission, &meter, named, inputs).await?;
            let (query, documents) = vectors.split_first().ok_or(ApiError::Internal)?;
            ("cosine", documents.iter().map(|vector| cosine(query, vector)).collect())
        }
    };
    let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top_n);
    let results = ranked.into_iter().map(|(index, relevance_score)| RerankResult {
        index,
        relevance_score,
        document: return_documents.then(|| RerankedText { text: documents[index].clone() }),
    });
    let usage = EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens };
    let (id, results) = (state.new_id("rerank-"), results.collect());
    Ok(Json(RerankResponse { id, model, scoring, results, usage }))
}
