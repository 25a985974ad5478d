//! Requests of Ollama's chats and completions, and the chats that they are.

use serde::Deserialize;
use serde_json::{Value, json};

use super::messages::translate_messages;
use super::options::translate_options;
use crate::http::body::json_body::{FromJson, read};
use crate::http::dialect::{Refused, Translated, Translation, refuse, refuse_foreign};
use crate::http::error::ApiError;
use crate::http::openai::whole::Whole;
use crate::http::peer::Peer;
use crate::http::state::AppState;

const NOT_DONE: &str = "it is not supported";
const IN_OPTIONS: &str = "it stands in options here";

/// What is not done here.
const REFUSED: [Refused; 13] = [
    ("images", "this model reads text alone", None),
    ("suffix", "nothing is filled in between two texts here", None),
    ("raw", "the model's chat template is used; /v1/completions takes raw prompts", None),
    ("template", "the model's own is used", None),
    ("context", "send the conversation to /api/chat instead", None),
    ("temperature", IN_OPTIONS, None),
    ("top_p", IN_OPTIONS, None),
    ("top_k", IN_OPTIONS, None),
    ("seed", IN_OPTIONS, None),
    ("stop", IN_OPTIONS, None),
    ("max_tokens", "it is called options.num_predict here", None),
    ("width", NOT_DONE, None),
    ("height", NOT_DONE, None),
];

/// A conversation to continue.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct OllamaChatRequest {
    /// The conversation; where the last message is the assistant's, the reply goes on with it.
    #[schema(value_type = Vec<Object>)]
    messages: Option<Value>,
    /// What the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
}

/// A prompt to answer.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct OllamaGenerateRequest {
    /// The prompt, which is the user's message.
    prompt: Option<String>,
    /// What the model is told before it.
    system: Option<String>,
}

/// What both have in common; read apart, as [`Sampled`](crate::http::openai::sampling::Sampled) is.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct OllamaFields {
    /// A model or an adapter; `:latest` behind it says nothing.
    model: String,
    /// `json`, or a JSON schema that the reply follows.
    #[schema(value_type = Option<Object>)]
    format: Option<Value>,
    /// How tokens are chosen, and how many.
    #[schema(value_type = Option<Object>)]
    options: Option<Value>,
    /// Whether the reply comes in lines of JSON; true where it is absent.
    stream: Option<bool>,
    /// Whether the model thinks before it speaks: a boolean, or `low`, `medium` or `high`.
    #[schema(value_type = Option<bool>)]
    think: Option<Value>,
    /// Whether the tokens' log-probabilities are reported.
    logprobs: Option<bool>,
    /// Alternatives per token; needs `logprobs`.
    #[schema(minimum = 0, value_type = Option<u64>)]
    top_logprobs: Option<Whole>,
    /// 0 where nothing is asked: the model leaves, if others may come in its place and nobody uses it. How long it
    /// stays otherwise is the server's affair.
    #[schema(value_type = Option<Object>)]
    keep_alive: Option<Value>,
}

/// A request with the fields that both have.
pub(in crate::http) struct WithFields<T> {
    own: T,
    fields: OllamaFields,
}

/// What a request asks for.
pub(super) enum Prompted {
    /// A reply.
    Chat(Box<Translated>),
    /// That the model be loaded, or not any more.
    Load { model: String, unload: bool },
}

impl FromJson for WithFields<OllamaChatRequest> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        refuse("", value, &REFUSED)?;
        refuse_foreign(value, &["messages", "logprobs", "top_logprobs"])?;
        Ok(Self { own: read(value)?, fields: read(value)? })
    }
}

impl FromJson for WithFields<OllamaGenerateRequest> {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        refuse("", value, &REFUSED)?;
        refuse_foreign(value, &["system", "logprobs", "top_logprobs"])?;
        Ok(Self { own: read(value)?, fields: read(value)? })
    }
}

impl WithFields<OllamaChatRequest> {
    /// The chat that it is.
    ///
    /// # Errors
    /// [`ApiError::Field`], [`ApiError::UnknownModel`].
    pub(super) fn translate(self, state: &AppState, peer: &Peer) -> Result<Prompted, ApiError> {
        let messages = self.own.messages.unwrap_or_default();
        if messages.is_null() || messages.as_array().is_some_and(Vec::is_empty) {
            return self.fields.load(state, peer);
        }
        let mut chat = Translation::default();
        translate_messages(&messages, &mut chat)?;
        let tools = self.own.tools.filter(|tools| tools.as_array().is_none_or(|it| !it.is_empty()));
        chat.set("tools", "tools", tools);
        self.fields.translate(state, peer, chat)
    }
}

impl WithFields<OllamaGenerateRequest> {
    /// The chat that it is.
    ///
    /// # Errors
    /// [`ApiError::Field`], [`ApiError::UnknownModel`].
    pub(super) fn translate(self, state: &AppState, peer: &Peer) -> Result<Prompted, ApiError> {
        let Some(prompt) = self.own.prompt.filter(|prompt| !prompt.is_empty()) else {
            return self.fields.load(state, peer);
        };
        let mut chat = Translation::default();
        chat.name("messages", "prompt");
        if let Some(system) = self.own.system.filter(|system| !system.is_empty()) {
            let place = chat.message("system", json!({"role": "system", "content": system}));
            chat.name(format!("{place}.content"), "system");
        }
        let place = chat.message("prompt", json!({"role": "user", "content": prompt}));
        chat.name(format!("{place}.content"), "prompt");
        self.fields.translate(state, peer, chat)
    }
}

/// A model by Ollama's name for it.
///
/// # Errors
/// [`ApiError::UnknownModel`].
pub(super) fn known_model(name: &str, state: &AppState, peer: &Peer) -> Result<String, ApiError> {
    let short = name.strip_suffix(":latest").unwrap_or(name);
    match (peer.named(state, Some(name)), peer.named(state, Some(short))) {
        (Ok(_), _) => Ok(name.to_owned()),
        (Err(_), Ok(_)) => Ok(short.to_owned()),
        (Err(error), Err(_)) => Err(error),
    }
}

impl OllamaFields {
    /// Where nothing is asked.
    fn load(self, state: &AppState, peer: &Peer) -> Result<Prompted, ApiError> {
        let unload = self.keep_alive.is_some_and(|keep| {
            keep.as_f64() == Some(0.0)
                || keep.as_str().is_some_and(|keep| ["0", "0s"].contains(&keep))
        });
        Ok(Prompted::Load { model: known_model(&self.model, state, peer)?, unload })
    }

    fn translate(
        self,
        state: &AppState,
        peer: &Peer,
        mut chat: Translation,
    ) -> Result<Prompted, ApiError> {
        let model = known_model(&self.model, state, peer)?;
        let room = state.library.max_positions(state.named(Some(&model))?.model);
        chat.set("model", "model", model);
        chat.set("stream", "stream", self.stream.unwrap_or(true));
        match self.format.unwrap_or_default() {
            Value::Null => {}
            Value::String(format) if format.is_empty() => {}
            Value::String(format) if format == "json" => {
                chat.set("response_format", "format", json!({"type": "json_object"}));
            }
            schema @ Value::Object(_) => {
                let named = json!({"schema": schema});
                let format = json!({"type": "json_schema", "json_schema": named});
                chat.set("response_format", "format", format);
                chat.name("response_format.json_schema.schema", "format");
            }
            _ => return Err(ApiError::field("format", "it must be json or a JSON schema")),
        }
        match self.think.unwrap_or_default() {
            Value::Null => {}
            Value::Bool(thinks) => chat.set("enable_thinking", "think", thinks),
            Value::String(effort) if ["low", "medium", "high"].contains(&effort.as_str()) => {
                chat.set("reasoning_effort", "think", effort);
            }
            _ => {
                let reason = "it must be true, false, low, medium or high";
                return Err(ApiError::field("think", reason));
            }
        }
        chat.set("logprobs", "logprobs", self.logprobs);
        let top = self.top_logprobs.map(|Whole(top)| i64::try_from(top).unwrap_or(i64::MAX));
        chat.set("top_logprobs", "top_logprobs", top);
        if let Some(options) = self.options.filter(|options| !options.is_null()) {
            translate_options(&options, room, &mut chat)?;
        }
        Ok(Prompted::Chat(Box::new(chat.finish()?)))
    }
}
