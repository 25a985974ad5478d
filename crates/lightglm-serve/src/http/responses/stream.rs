//! A response while it is made: its items, and the events that tell of them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::object::{Echo, ResponseObject, ResponseUsage, logprob_values};
use crate::http::choice_stream::ChoiceEvent;
use crate::http::dialect::{Hears, tell_pieces};
use crate::http::error::ApiError;
use crate::http::openai::chat_reply::ChatReply;
use crate::http::openai::tools::Piece;
use crate::http::sse::{Encode, EventData};
use crate::http::state::unix_time;

/// The item that is being made.
struct OpenItem {
    kind: Kind,
    id: String,
    /// The text, the thoughts or the arguments so far.
    text: String,
    /// Of the text.
    logprobs: Vec<Value>,
}

/// The kinds of items.
enum Kind {
    Reasoning,
    Message,
    Call { call_id: String, name: String },
}

/// Makes a response of a chat's reply.
pub(super) struct ResponseEvents {
    reply: Option<ChatReply>,
    progress: Progress,
    /// Kept for its memory; empty between two events.
    pieces: Vec<Piece>,
}

/// What there is so far.
struct Progress {
    echo: Echo,
    created_at: u64,
    model: String,
    sequence_number: u64,
    output: Vec<Value>,
    open: Option<OpenItem>,
    /// Log-probabilities of tokens whose text is held back.
    pending: Vec<Value>,
    status: &'static str,
    error: Option<Value>,
    usage: Option<ResponseUsage>,
    /// New names of items.
    new_id: Box<dyn Fn(&str) -> String + Send + Sync>,
}

impl ResponseEvents {
    pub(super) fn new(reply: ChatReply, echo: Echo) -> Self {
        let state = reply.state.clone();
        let progress = Progress {
            echo,
            created_at: reply.created,
            model: reply.model.clone(),
            sequence_number: 0,
            output: Vec::new(),
            open: None,
            pending: Vec::new(),
            status: "in_progress",
            error: None,
            usage: None,
            new_id: Box::new(move |prefix| state.new_id(prefix)),
        };
        Self { reply: Some(reply), progress, pieces: Vec::new() }
    }

    /// The response, once it is over.
    pub(super) fn into_response(self) -> Value {
        serde_json::to_value(self.progress.object()).unwrap_or_default()
    }
}

impl Progress {
    /// Tells an event.
    fn tell(&mut self, name: &'static str, mut event: Value, out: &mut EventData) {
        event["type"] = name.into();
        event["sequence_number"] = self.sequence_number.into();
        self.sequence_number += 1;
        out.push_named(name, &event);
    }

    /// Tells an event of the item that is being made.
    fn tell_of_item(
        &mut self,
        name: &'static str,
        id: &str,
        mut event: Value,
        out: &mut EventData,
    ) {
        event["item_id"] = id.into();
        event["output_index"] = self.output.len().into();
        self.tell(name, event, out);
    }

    fn tell_of_response(&mut self, name: &'static str, out: &mut EventData) {
        let response = serde_json::to_value(self.object()).unwrap_or_default();
        self.tell(name, json!({"response": response}), out);
    }

    fn begin(&mut self, out: &mut EventData) {
        if self.sequence_number == 0 {
            self.tell_of_response("response.created", out);
            self.tell_of_response("response.in_progress", out);
        }
    }

    fn object(&self) -> ResponseObject<'_> {
        let echo = &self.echo;
        let is_cut = self.status == "incomplete";
        ResponseObject {
            id: &echo.id,
            object: "response",
            created_at: self.created_at,
            status: self.status,
            completed_at: (self.status == "completed").then(unix_time),
            background: false,
            error: self.error.clone(),
            incomplete_details: is_cut.then(|| json!({"reason": "max_output_tokens"})),
            instructions: echo.instructions.as_deref(),
            max_output_tokens: echo.max_output_tokens,
            max_tool_calls: None,
            model: &self.model,
            output: &self.output,
            parallel_tool_calls: echo.parallel_tool_calls,
            previous_response_id: None,
            reasoning: &echo.reasoning,
            safety_identifier: echo.safety_identifier.as_deref(),
            service_tier: "default",
            store: false,
            temperature: echo.temperature,
            text: &echo.text,
            tool_choice: &echo.tool_choice,
            tools: &echo.tools,
            top_logprobs: echo.top_logprobs,
            top_p: echo.top_p,
            truncation: "disabled",
            usage: self.usage.clone(),
            user: echo.user.as_deref(),
            metadata: &echo.metadata,
        }
    }

    /// The item of a kind that goes on, or a new one.
    fn item(&mut self, kind: Kind, out: &mut EventData) -> OpenItem {
        let is_same = self.open.as_ref().is_some_and(|open| {
            matches!(
                (&open.kind, &kind),
                (Kind::Reasoning, Kind::Reasoning) | (Kind::Message, Kind::Message)
            )
        });
        if is_same && let Some(open) = self.open.take() {
            return open;
        }
        self.close("completed", out);
        let prefix = match kind {
            Kind::Reasoning => "rs_",
            Kind::Message => "msg_",
            Kind::Call { .. } => "fc_",
        };
        let item =
            OpenItem { kind, id: (self.new_id)(prefix), text: String::new(), logprobs: Vec::new() };
        let mut added = item.value("in_progress", self.echo.has_logprobs);
        // Its parts are told of one by one.
        if added.get("content").is_some() {
            added["content"] = json!([]);
        }
        let index = self.output.len();
        self.tell("response.output_item.added", json!({"output_index": index, "item": added}), out);
        if let Some(part) = item.part(self.echo.has_logprobs) {
            let event = json!({"content_index": 0, "part": part});
            self.tell_of_item("response.content_part.added", &item.id, event, out);
        }
        item
    }

    /// Ends the item that is being made, if any.
    fn close(&mut self, status: &'static str, out: &mut EventData) {
        let Some(item) = self.open.take() else { return };
        let has_logprobs = self.echo.has_logprobs;
        let (name, event) = match &item.kind {
            Kind::Reasoning => {
                ("response.reasoning_text.done", json!({"content_index": 0, "text": item.text}))
            }
            Kind::Message => (
                "response.output_text.done",
                json!({"content_index": 0, "text": item.text, "logprobs": item.logprobs}),
            ),
            Kind::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"name": name, "arguments": item.text}),
            ),
        };
        self.tell_of_item(name, &item.id, event, out);
        if let Some(part) = item.part(has_logprobs) {
            let event = json!({"content_index": 0, "part": part});
            self.tell_of_item("response.content_part.done", &item.id, event, out);
        }
        let value = item.value(status, has_logprobs);
        let index = self.output.len();
        self.tell(
            "response.output_item.done",
            json!({"output_index": index, "item": value.clone()}),
            out,
        );
        self.output.push(value);
    }
}

impl OpenItem {
    fn value(&self, status: &str, has_logprobs: bool) -> Value {
        let mut value = match &self.kind {
            Kind::Reasoning => json!({"type": "reasoning", "summary": []}),
            Kind::Message => json!({"type": "message", "role": "assistant"}),
            Kind::Call { call_id, name } => json!({
                "type": "function_call", "call_id": call_id, "name": name, "arguments": self.text}),
        };
        if let Some(part) = self.part(has_logprobs) {
            value["content"] = json!([part]);
        }
        value["id"] = self.id.as_str().into();
        value["status"] = status.into();
        value
    }

    /// The part that holds its text; a call has none.
    fn part(&self, has_logprobs: bool) -> Option<Value> {
        match self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": self.text})),
            Kind::Message => {
                let mut part = json!({"type": "output_text", "text": self.text, "annotations": []});
                if has_logprobs {
                    part["logprobs"] = self.logprobs.clone().into();
                }
                Some(part)
            }
            Kind::Call { .. } => None,
        }
    }
}

impl Hears for Progress {
    fn thought(&mut self, text: String, out: &mut EventData) {
        self.pending.clear();
        let mut item = self.item(Kind::Reasoning, out);
        let event = json!({"content_index": 0, "delta": text});
        self.tell_of_item("response.reasoning_text.delta", &item.id, event, out);
        item.text += &text;
        self.open = Some(item);
    }

    fn said(&mut self, text: String, out: &mut EventData) {
        let mut item = self.item(Kind::Message, out);
        let logprobs = std::mem::take(&mut self.pending);
        let event = json!({"content_index": 0, "delta": text, "logprobs": logprobs});
        self.tell_of_item("response.output_text.delta", &item.id, event, out);
        item.text += &text;
        item.logprobs.extend(logprobs);
        self.open = Some(item);
    }

    fn called(&mut self, name: String, out: &mut EventData) {
        self.pending.clear();
        let call_id = (self.new_id)("call_");
        let item = self.item(Kind::Call { call_id, name }, out);
        self.open = Some(item);
    }

    fn argued(&mut self, text: String, out: &mut EventData) {
        self.pending.clear();
        let Some(mut item) = self.open.take() else { return };
        if !text.is_empty() {
            let event = json!({"delta": text});
            self.tell_of_item("response.function_call_arguments.delta", &item.id, event, out);
        }
        item.text += &text;
        self.open = Some(item);
    }
}

impl Encode for ResponseEvents {
    const LAST: Option<&'static str> = None;

    fn event(&mut self, index: usize, event: ChoiceEvent, out: &mut EventData) {
        let Some(reply) = &mut self.reply else { return };
        self.progress.begin(out);
        let (logprobs, reason) = reply.take(index, event, &mut self.pieces);
        if let Some(logprobs) = logprobs {
            self.progress.pending.extend(logprob_values(&logprobs.content));
        }
        tell_pieces(&mut self.pieces, &mut self.progress, out);
        if let Some(reason) = reason {
            self.progress.usage = Some(ResponseUsage::from(&reply.usage));
            let is_cut = reason == "length";
            self.progress.status = if is_cut { "incomplete" } else { "completed" };
        }
    }

    fn end(&mut self, out: &mut EventData) {
        let progress = &mut self.progress;
        progress.begin(out);
        // A response that says nothing has an empty message.
        if progress.output.is_empty() && progress.open.is_none() {
            let item = progress.item(Kind::Message, out);
            progress.open = Some(item);
        }
        let status = progress.status;
        progress.close(status, out);
        let name =
            if status == "incomplete" { "response.incomplete" } else { "response.completed" };
        progress.tell_of_response(name, out);
    }

    fn failed(&mut self, error: &ApiError, out: &mut EventData) {
        let progress = &mut self.progress;
        progress.begin(out);
        progress.close("incomplete", out);
        progress.status = "failed";
        let is_prompt = error.status() == StatusCode::BAD_REQUEST;
        let code = if is_prompt { "invalid_prompt" } else { "server_error" };
        progress.error = Some(json!({"code": code, "message": error.message()}));
        progress.tell_of_response("response.failed", out);
    }
}
