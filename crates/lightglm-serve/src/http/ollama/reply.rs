//! Replies of Ollama's API: lines while they are made, or one object.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::Route;
use super::time::now;
use crate::http::choice_stream::ChoiceEvent;
use crate::http::dialect::{Hears, arguments_object, tell_pieces};
use crate::http::error::ApiError;
use crate::http::openai::chat_reply::ChatReply;
use crate::http::openai::tools::Piece;
use crate::http::sse::{Encode, EventData};

/// A reply, or a line of one.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct OllamaReply {
    /// Which model answers.
    model: String,
    /// Now.
    created_at: String,
    /// Of a chat: more of what is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<OllamaMessage>,
    /// Of a prompt: more of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    /// Of a prompt: more of what the model thinks before it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    /// Log-probabilities, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    logprobs: Vec<Value>,
    /// Whether nothing follows.
    done: bool,
    /// In the last line: `stop` or `length`; `load` or `unload` where nothing was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    /// In the last line, what it took.
    #[serde(flatten)]
    took: Option<Took>,
}

/// What is said.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
struct OllamaMessage {
    /// `assistant`.
    role: &'static str,
    /// The text, or more of it.
    content: String,
    /// What the model thinks before it speaks, or more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    /// Calls; each comes whole, for its arguments are an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    tool_calls: Vec<Value>,
}

/// What a reply took: tokens, and nanoseconds.
#[derive(Serialize, Clone, utoipa::ToSchema)]
struct Took {
    /// From the request to the end.
    total_duration: u64,
    /// The model is loaded: 0.
    load_duration: u64,
    /// Tokens of the prompt.
    prompt_eval_count: usize,
    /// To the first token, waiting included.
    prompt_eval_duration: u64,
    /// Tokens of the reply.
    eval_count: usize,
    /// From the first token to the end.
    eval_duration: u64,
}

/// The answer to a request that asks nothing.
pub(super) fn loaded(model: String, route: Route, unload: bool) -> OllamaReply {
    let (message, response) = match route {
        Route::Chat => (Some(OllamaMessage { role: "assistant", ..Default::default() }), None),
        Route::Generate => (None, Some(String::new())),
    };
    let done_reason = Some(if unload { "unload" } else { "load" });
    let created_at = now();
    OllamaReply {
        model,
        created_at,
        message,
        response,
        done: true,
        done_reason,
        ..Default::default()
    }
}

/// Makes Ollama's reply of a chat's.
pub(super) struct OllamaEvents {
    reply: ChatReply,
    progress: Progress,
    began: Instant,
    first_token: Option<Instant>,
    reason: &'static str,
    /// Kept for its memory; empty between two events.
    pieces: Vec<Piece>,
}

/// What there is so far.
struct Progress {
    route: Route,
    model: String,
    /// The text, thoughts and calls that are not told yet: all, where the reply comes whole.
    content: String,
    thinking: String,
    tool_calls: Vec<Value>,
    logprobs: Vec<Value>,
    calls: usize,
    /// The call that is being written.
    open: Option<(String, String)>,
    is_whole: bool,
    last: OllamaReply,
}

impl OllamaEvents {
    pub(super) fn new(reply: ChatReply, route: Route) -> Self {
        let progress = Progress {
            route,
            model: reply.model.clone(),
            content: String::new(),
            thinking: String::new(),
            tool_calls: Vec::new(),
            logprobs: Vec::new(),
            calls: 0,
            open: None,
            is_whole: false,
            last: OllamaReply::default(),
        };
        let (began, first_token) = (Instant::now(), None);
        Self { reply, progress, began, first_token, reason: "stop", pieces: Vec::new() }
    }

    /// For a reply in one object.
    pub(super) fn whole(mut self) -> Self {
        self.progress.is_whole = true;
        self
    }

    /// The reply, once it is over.
    pub(super) fn into_reply(self) -> OllamaReply {
        self.progress.last
    }

    fn took(&self) -> Took {
        let nanos = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
        };
        let end = Instant::now();
        let first = self.first_token.unwrap_or(end);
        Took {
            total_duration: nanos(self.began, end),
            load_duration: 0,
            prompt_eval_count: self.reply.usage.prompt_tokens,
            prompt_eval_duration: nanos(self.began, first),
            eval_count: self.reply.usage.completion_tokens,
            eval_duration: nanos(first, end),
        }
    }
}

impl Progress {
    /// What was not told yet.
    fn line(&mut self) -> OllamaReply {
        let content = std::mem::take(&mut self.content);
        let thinking = Some(std::mem::take(&mut self.thinking)).filter(|it| !it.is_empty());
        let logprobs = std::mem::take(&mut self.logprobs);
        let tool_calls = std::mem::take(&mut self.tool_calls);
        let line = OllamaReply {
            model: self.model.clone(),
            created_at: now(),
            logprobs,
            ..Default::default()
        };
        match self.route {
            Route::Chat => {
                let message = OllamaMessage { role: "assistant", content, thinking, tool_calls };
                OllamaReply { message: Some(message), ..line }
            }
            Route::Generate => OllamaReply { response: Some(content), thinking, ..line },
        }
    }

    /// Tells what is there, unless the reply comes whole.
    fn tell(&mut self, out: &mut EventData) {
        let is_empty =
            self.content.is_empty() && self.thinking.is_empty() && self.tool_calls.is_empty();
        if !self.is_whole && !is_empty {
            out.push(&self.line());
        }
    }

    /// Ends the call that is being written; one that was cut has the arguments that were complete.
    fn close(&mut self, out: &mut EventData) {
        let Some((name, arguments)) = self.open.take() else { return };
        let arguments = arguments_object(&arguments);
        let function = json!({"index": self.calls, "name": name, "arguments": arguments});
        self.calls += 1;
        self.tool_calls.push(json!({"function": function}));
        self.tell(out);
    }
}

impl Hears for Progress {
    fn thought(&mut self, text: String, out: &mut EventData) {
        self.close(out);
        self.thinking += &text;
        self.tell(out);
    }

    fn said(&mut self, text: String, out: &mut EventData) {
        self.close(out);
        self.content += &text;
        self.tell(out);
    }

    fn called(&mut self, name: String, out: &mut EventData) {
        self.close(out);
        self.open = Some((name, String::new()));
    }

    fn argued(&mut self, text: String, _: &mut EventData) {
        if let Some((_, arguments)) = &mut self.open {
            *arguments += &text;
        }
    }
}

impl Encode for OllamaEvents {
    const LAST: Option<&'static str> = None;

    fn event(&mut self, index: usize, event: ChoiceEvent, out: &mut EventData) {
        if matches!(event, ChoiceEvent::Step(_)) {
            self.first_token.get_or_insert_with(Instant::now);
        }
        let (logprobs, reason) = self.reply.take(index, event, &mut self.pieces);
        if let Some(logprobs) = logprobs {
            let entries = logprobs.content.iter();
            self.progress.logprobs.extend(entries.filter_map(|it| serde_json::to_value(it).ok()));
        }
        tell_pieces(&mut self.pieces, &mut self.progress, out);
        if let Some(reason) = reason {
            self.reason = if reason == "length" { "length" } else { "stop" };
        }
    }

    fn end(&mut self, out: &mut EventData) {
        self.progress.close(out);
        let took = self.took();
        let mut last = self.progress.line();
        (last.done, last.done_reason, last.took) = (true, Some(self.reason), Some(took));
        out.push(&last);
        self.progress.last = last;
    }

    fn failed(&mut self, error: &ApiError, out: &mut EventData) {
        out.push(&json!({"error": error.message()}));
    }
}
