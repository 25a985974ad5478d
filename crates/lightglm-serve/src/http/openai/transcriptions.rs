//! `POST /v1/audio/transcriptions`: a recording to text.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lightglm_core::MediaKind;
use lightglm_text::{Message, TRANSCRIPTION_PROMPT, join_pieces, needs_space, subtitle};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sampling::Sampled;
use super::usage::Usage;
use crate::http::admission::{Admission, Awaited};
use crate::http::body::json_body::{FromJson, bounded, read};
use crate::http::choice_stream::{ChoiceEvent, ChoicePrompt, ChoiceStream};
use crate::http::error::ApiError;
use crate::http::media::{Detail, PendingMedia, Placed, encode_pieces};
use crate::http::models::ModelState;
use crate::http::peer::Peer;
use crate::http::sse::{self, Encode, EventData};
use crate::http::state::AppState;

/// Characters of `prompt` and of `language`.
const LONGEST_PROMPT: usize = 4096;

/// The fields of the form beside the file.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct TranscriptionRequest {
    /// The recording: WAV, FLAC, MP3 or Ogg Vorbis.
    #[schema(value_type = String, format = Binary)]
    #[serde(skip)]
    #[allow(dead_code, reason = "read apart; it stands in the OpenAPI document")]
    file: (),
    /// `json`, `text`, `verbose_json`, `srt` or `vtt`.
    response_format: Option<ResponseFormat>,
    /// The language that is spoken.
    language: Option<String>,
    /// Names and words that may be in it.
    prompt: Option<String>,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum ResponseFormat {
    #[default]
    Json,
    Text,
    VerboseJson,
    Srt,
    Vtt,
}

/// What was said.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct TranscriptionResponse {
    /// All of it.
    text: String,
    /// `transcribe`, in a `verbose_json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'static str>,
    /// The language that the request names, in a `verbose_json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    /// Seconds of the recording, in a `verbose_json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    /// Piece by piece, in a `verbose_json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<Vec<TranscriptionSegment>>,
    /// What it took.
    usage: Usage,
}

/// What was said in a piece of a recording.
#[derive(Serialize, Clone, utoipa::ToSchema)]
pub(in crate::http) struct TranscriptionSegment {
    /// Its number, from 0.
    id: usize,
    /// When it begins, in seconds.
    start: f64,
    /// When it ends.
    end: f64,
    /// What was said.
    text: String,
}

impl FromJson for TranscriptionRequest {
    fn from_json(value: &Value) -> Result<Self, ApiError> {
        let request: Self = read(value)?;
        for (field, text) in [("prompt", &request.prompt), ("language", &request.language)] {
            if text.as_ref().is_some_and(|text| text.chars().count() > LONGEST_PROMPT) {
                let reason = format!("it must have at most {LONGEST_PROMPT} characters");
                return Err(ApiError::field(field, reason));
            }
        }
        Ok(request)
    }
}

impl TranscriptionRequest {
    /// What the model is asked.
    fn instruction(&self) -> String {
        let mut instruction = TRANSCRIPTION_PROMPT.to_owned();
        if let Some(language) = self.language.as_ref().filter(|language| !language.is_empty()) {
            instruction = format!("{instruction} ({language})");
        }
        if let Some(prompt) = self.prompt.as_ref().filter(|prompt| !prompt.is_empty()) {
            instruction = format!("{instruction}\n{prompt}");
        }
        instruction
    }
}

/// The form of a request.
pub(in crate::http) struct TranscriptionForm {
    request: Sampled<TranscriptionRequest>,
    file: Vec<u8>,
}

impl FromRequest<AppState> for TranscriptionForm {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &AppState) -> Result<Self, ApiError> {
        let awaited = request.extensions_mut().remove::<Awaited>();
        let most = state.config.body_limit(request.uri().path());
        let mut head = Request::new(Body::empty());
        let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
        head.headers_mut().extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
        let body = bounded(request, most, &state.bodies);
        let body = tokio::time::timeout(state.config.limits.body_timeout, body).await;
        let body = body.map_err(|_| ApiError::BodyTimeout)??;
        if let Some(awaited) = awaited {
            awaited.take(state)?;
        }
        // Held until it has been parsed.
        let (bytes, _held) = body.into_parts();
        *head.body_mut() = Body::from(bytes);
        let mut form = Multipart::from_request(head, &()).await.map_err(|_| {
            ApiError::field("body", "the Content-Type must be multipart/form-data with a boundary")
        })?;
        let malformed = |_| ApiError::field("body", "it is no multipart form");
        let (mut fields, mut file) = (Map::new(), None);
        while let Some(field) = form.next_field().await.map_err(malformed)? {
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                file = Some(field.bytes().await.map_err(malformed)?.to_vec());
                continue;
            }
            let text = field.text().await.map_err(malformed)?;
            fields.insert(name.clone(), value_of(&name, text));
        }
        let file = file.ok_or_else(|| ApiError::field("file", "it is required"))?;
        let request = Sampled::from_json(&Value::Object(fields))?;
        Ok(Self { request, file })
    }
}

/// A form has texts alone.
fn value_of(name: &str, text: String) -> Value {
    match name {
        "temperature" => text.trim().parse::<f64>().map_or(Value::String(text), Value::from),
        "stream" => match text.trim() {
            "true" | "True" | "1" => true.into(),
            "false" | "False" | "0" => false.into(),
            _ => text.into(),
        },
        _ => text.into(),
    }
}

/// Writes down what is said in a recording.
#[utoipa::path(post, path = "/v1/audio/transcriptions", tag = "openai",
    request_body(content = TranscriptionRequest, content_type = "multipart/form-data"), responses(
    (status = 200, description = "What was said", body = TranscriptionResponse)
))]
pub(in crate::http) async fn transcriptions(
    State(state): State<AppState>,
    peer: Peer,
    mut admission: Admission,
    form: TranscriptionForm,
) -> Result<Response, ApiError> {
    let TranscriptionForm { request: Sampled { sampling, request }, file } = form;
    // What was said is to be the same every time, unless somebody asks for variety.
    let sampling = sampling.greedy_unless_said();
    let state = ModelState::of(&state, &peer, &mut admission, sampling.model()).await?;
    let default_max = state.model.sampling.max_tokens;
    let mut sampling = sampling.checked(&state, &peer, "file", default_max)?;
    if sampling.n != 1 {
        return Err(ApiError::field("n", "a recording is written down once"));
    }
    let (param, kind, detail) = ("file".to_owned(), MediaKind::Sound, Detail::Auto);
    let file = PendingMedia { param, kind, bytes: file, detail };
    let most = state.most_choices();
    let pieces = encode_pieces(&state, &mut admission, file, most).await?;
    let content = json!([{"type": "audio"}, {"type": "text", "text": request.instruction()}]);
    let message = [Message::new("user", content)];
    let tokens = state.model.text.encode_chat(&message, &[]);
    let tokens = tokens.map_err(|error| ApiError::text("prompt", &error))?;
    sampling.shared.opening = state.model.opening(false);
    let (mut prompts, mut segments) = (Vec::new(), Vec::new());
    for (id, (start, end, placing)) in pieces.into_iter().enumerate() {
        let Placed { tokens: prompt, media } = placing.place(tokens.clone(), "file")?;
        // All are of one epoch.
        sampling.shared.cache_salt = placing.salt(&peer.cache_salt());
        let processors = Vec::new();
        let prompt_logprobs = None;
        prompts.push(ChoicePrompt { prompt, media, seed_offset: 0, processors, prompt_logprobs });
        segments.push(TranscriptionSegment { id, start, end, text: String::new() });
    }
    let mut choices = ChoiceStream::start(&state, admission, &sampling.shared, prompts)?;
    if sampling.shared.stream {
        return Ok(sse::stream(choices, TranscriptStream::new(segments.len())));
    }
    let mut usage = Usage::default();
    while let Some(event) = choices.next().await {
        match event? {
            (index, ChoiceEvent::Step(step)) => segments[index].text.push_str(&step.text),
            (_, ChoiceEvent::Finished { usage: used, .. }) => usage.add(used, true),
            (_, ChoiceEvent::Prompt(_)) => {}
        }
    }
    for segment in &mut segments {
        segment.text = segment.text.trim().to_owned();
    }
    Ok(response(request, segments, usage))
}

fn response(
    request: TranscriptionRequest,
    segments: Vec<TranscriptionSegment>,
    usage: Usage,
) -> Response {
    let text = join_pieces(segments.iter().map(|segment| segment.text.as_str()));
    let plain =
        |kind: &'static str, text: String| ([(header::CONTENT_TYPE, kind)], text).into_response();
    let cues = |mark: char| {
        let cue =
            |TranscriptionSegment { start, end, text, .. }: &_| subtitle(*start, *end, text, mark);
        segments.iter().map(cue).collect::<Vec<_>>()
    };
    match request.response_format.unwrap_or_default() {
        ResponseFormat::Text => plain("text/plain; charset=utf-8", format!("{text}\n")),
        ResponseFormat::Srt => {
            let numbered = cues(',').into_iter().enumerate();
            let numbered = numbered.map(|(id, cue)| format!("{}\n{cue}", id + 1));
            plain("application/x-subrip; charset=utf-8", numbered.collect::<Vec<_>>().join("\n"))
        }
        ResponseFormat::Vtt => {
            plain("text/vtt; charset=utf-8", format!("WEBVTT\n\n{}", cues('.').join("\n")))
        }
        format => {
            let is_verbose = format == ResponseFormat::VerboseJson;
            let duration = segments.last().map(|segment| segment.end);
            Json(TranscriptionResponse {
                text,
                task: is_verbose.then_some("transcribe"),
                language: request.language.filter(|_| is_verbose),
                duration: duration.filter(|_| is_verbose),
                segments: is_verbose.then_some(segments),
                usage,
            })
            .into_response()
        }
    }
}

/// A transcript as it is written: pieces are heard together, and told one after the other.
struct TranscriptStream {
    /// What each piece has said that is not told yet, and whether that is all.
    waiting: Vec<(String, bool)>,
    /// Which one is told.
    at: usize,
    /// Whether it has said nothing so far.
    begins: bool,
    told: String,
}

impl TranscriptStream {
    fn new(pieces: usize) -> Self {
        Self {
            waiting: vec![(String::new(), false); pieces],
            at: 0,
            begins: true,
            told: String::new(),
        }
    }

    fn tell(&mut self, out: &mut EventData) {
        while let Some((text, is_over)) = self.waiting.get_mut(self.at) {
            let mut delta = std::mem::take(text);
            let is_over = *is_over;
            if !delta.is_empty() {
                if std::mem::take(&mut self.begins) {
                    delta = delta.trim_start().to_owned();
                    if needs_space(&self.told, &delta) {
                        delta.insert(0, ' ');
                    }
                }
                self.told.push_str(&delta);
                out.push(&json!({"type": "transcript.text.delta", "delta": delta}));
            }
            if !is_over {
                return;
            }
            self.at += 1;
            self.begins = true;
        }
    }
}

impl Encode for TranscriptStream {
    fn event(&mut self, choice: usize, event: ChoiceEvent, out: &mut EventData) {
        let Some((text, is_over)) = self.waiting.get_mut(choice) else { return };
        match event {
            ChoiceEvent::Step(step) => text.push_str(&step.text),
            ChoiceEvent::Finished { .. } => *is_over = true,
            ChoiceEvent::Prompt(_) => return,
        }
        self.tell(out);
    }

    fn end(&mut self, out: &mut EventData) {
        out.push(&json!({"type": "transcript.text.done", "text": self.told}));
    }
}
