//! A message while it is made: its blocks, and the events that tell of them.

use lightglm_generation::{FinishReason, StopStrings};
use lightglm_text::Detokenize;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::choice_stream::ChoiceEvent;
use crate::http::dialect::{Hears, anthropic_event, arguments_object, tell_pieces};
use crate::http::error::ApiError;
use crate::http::models::ModelState;
use crate::http::openai::chat_reply::ChatReply;
use crate::http::openai::tools::Piece;
use crate::http::openai::usage::Usage;
use crate::http::sse::{Encode, EventData};

/// A message.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Message {
    /// A new one for each request.
    id: String,
    /// `message`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `assistant`.
    role: &'static str,
    /// Which model answers.
    model: String,
    /// Thoughts, texts and calls.
    #[schema(value_type = Vec<Object>)]
    content: Vec<Value>,
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`.
    #[schema(required)]
    stop_reason: Option<&'static str>,
    /// The string that ended it, if one did.
    #[schema(required)]
    stop_sequence: Option<String>,
    /// What it took.
    usage: MessageUsage,
}

/// The tokens of a message.
#[derive(Serialize, Clone, Default, utoipa::ToSchema)]
pub(in crate::http) struct MessageUsage {
    /// Of the prompt, without those from the cache.
    input_tokens: usize,
    /// Of the prompt, from the cache.
    cache_read_input_tokens: usize,
    /// Nothing is charged for filling it.
    cache_creation_input_tokens: usize,
    /// Of the answer.
    output_tokens: usize,
}

impl From<&Usage> for MessageUsage {
    fn from(usage: &Usage) -> Self {
        let cached = usage.prompt_tokens_details.cached_tokens;
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(cached),
            cache_read_input_tokens: cached,
            cache_creation_input_tokens: 0,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// The block that is being made.
struct OpenBlock {
    kind: Kind,
    /// The text, the thoughts or the arguments so far.
    text: String,
}

/// The kinds of blocks.
enum Kind {
    Thinking,
    Text,
    ToolUse { id: String, name: String },
}

/// Makes a message of a chat's reply.
pub(in crate::http) struct MessageEvents {
    reply: ChatReply,
    progress: Progress,
    /// Which string ended it.
    stop: StopFinder,
    /// Kept for its memory; empty between two events.
    pieces: Vec<Piece>,
}

/// What there is so far.
struct Progress {
    state: ModelState,
    message: Message,
    begun: bool,
    open: Option<OpenBlock>,
}

/// Finds the string that ended a reply: the engine says that one did, and not which.
struct StopFinder {
    stop: Vec<String>,
    matcher: StopStrings,
    detokenizer: Box<dyn Detokenize + Send>,
    found: Option<usize>,
}

impl StopFinder {
    fn push(&mut self, text: Option<String>) {
        if let (None, Some(text)) = (self.found, text) {
            self.found = self.matcher.push(text).stopped;
        }
    }

    fn event(&mut self, event: &ChoiceEvent) {
        // With one there is nothing to find out.
        if self.stop.len() < 2 {
            return;
        }
        match event {
            ChoiceEvent::Prompt(_) => {}
            ChoiceEvent::Step(step) => {
                let text = step.token.and_then(|token| self.detokenizer.push(token));
                self.push(text);
            }
            ChoiceEvent::Finished { .. } => {
                let rest = self.detokenizer.finish();
                self.push(rest);
            }
        }
    }

    fn found(&self) -> Option<String> {
        let index = if self.stop.len() == 1 { Some(0) } else { self.found };
        index.and_then(|index| self.stop.get(index)).cloned()
    }
}

impl MessageEvents {
    /// For a reply that begins with `opening` and ends at the strings `stop`.
    pub(super) fn new(
        reply: ChatReply,
        stop: Vec<String>,
        opening: &str,
        prompt_tokens: usize,
    ) -> Self {
        let state = reply.state.clone();
        let usage = MessageUsage { input_tokens: prompt_tokens, ..MessageUsage::default() };
        let message = Message {
            id: state.new_id("msg_"),
            kind: "message",
            role: "assistant",
            model: reply.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage,
        };
        let stop = StopFinder {
            matcher: StopStrings::new(&stop),
            stop,
            detokenizer: state.model.text.reply_detokenizer(opening),
            found: None,
        };
        let progress = Progress { state, message, begun: false, open: None };
        Self { reply, progress, stop, pieces: Vec::new() }
    }

    /// The message, once it is over.
    pub(super) fn into_message(self) -> Message {
        self.progress.message
    }
}

/// Tells an event, which has its name inside as well.
fn tell(name: &'static str, mut event: Value, out: &mut EventData) {
    event["type"] = name.into();
    out.push_named(name, &event);
}

impl Progress {
    fn begin(&mut self, out: &mut EventData) {
        if !std::mem::replace(&mut self.begun, true) {
            tell("message_start", json!({"message": self.message}), out);
        }
    }

    /// The block of a kind that goes on, or a new one.
    fn block(&mut self, kind: Kind, out: &mut EventData) -> &mut OpenBlock {
        let is_same = self.open.as_ref().is_some_and(|open| {
            matches!(
                (&open.kind, &kind),
                (Kind::Thinking, Kind::Thinking) | (Kind::Text, Kind::Text)
            )
        });
        if !is_same {
            self.close(out);
            let block = OpenBlock { kind, text: String::new() };
            let index = self.message.content.len();
            let event = json!({"index": index, "content_block": block.value()});
            tell("content_block_start", event, out);
            self.open = Some(block);
        }
        self.open.get_or_insert_with(|| OpenBlock { kind: Kind::Text, text: String::new() })
    }

    /// More of the block that is open.
    fn delta(&mut self, text: &str, out: &mut EventData) {
        let index = self.message.content.len();
        let Some(block) = &mut self.open else { return };
        block.text += text;
        let delta = match block.kind {
            Kind::Thinking => json!({"type": "thinking_delta", "thinking": text}),
            Kind::Text => json!({"type": "text_delta", "text": text}),
            Kind::ToolUse { .. } => json!({"type": "input_json_delta", "partial_json": text}),
        };
        tell("content_block_delta", json!({"index": index, "delta": delta}), out);
    }

    fn close(&mut self, out: &mut EventData) {
        let Some(block) = self.open.take() else { return };
        let index = self.message.content.len();
        tell("content_block_stop", json!({"index": index}), out);
        self.message.content.push(block.value());
    }
}

impl OpenBlock {
    fn value(&self) -> Value {
        match &self.kind {
            // Nobody signs thoughts here; clients want the field.
            Kind::Thinking => json!({"type": "thinking", "thinking": self.text, "signature": ""}),
            Kind::Text => json!({"type": "text", "text": self.text}),
            Kind::ToolUse { id, name } => {
                let input = arguments_object(&self.text);
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }
}

impl Hears for Progress {
    fn thought(&mut self, text: String, out: &mut EventData) {
        self.block(Kind::Thinking, out);
        self.delta(&text, out);
    }

    fn said(&mut self, text: String, out: &mut EventData) {
        self.block(Kind::Text, out);
        self.delta(&text, out);
    }

    fn called(&mut self, name: String, out: &mut EventData) {
        let id = self.state.new_id("toolu_");
        self.block(Kind::ToolUse { id, name }, out);
    }

    fn argued(&mut self, text: String, out: &mut EventData) {
        self.delta(&text, out);
    }
}

impl Encode for MessageEvents {
    const LAST: Option<&'static str> = None;
    const PING: Option<(&'static str, &'static str)> = Some(("ping", "{\"type\": \"ping\"}"));

    fn event(&mut self, index: usize, event: ChoiceEvent, out: &mut EventData) {
        self.progress.begin(out);
        self.stop.event(&event);
        let is_stopped = match &event {
            ChoiceEvent::Finished { reason, .. } => *reason == FinishReason::StopString,
            ChoiceEvent::Step(_) | ChoiceEvent::Prompt(_) => false,
        };
        let (_, reason) = self.reply.take(index, event, &mut self.pieces);
        tell_pieces(&mut self.pieces, &mut self.progress, out);
        if let Some(reason) = reason {
            let message = &mut self.progress.message;
            message.usage = MessageUsage::from(&self.reply.usage);
            message.stop_reason = Some(match reason {
                "length" => "max_tokens",
                "tool_calls" => "tool_use",
                _ if is_stopped => "stop_sequence",
                _ => "end_turn",
            });
            if message.stop_reason == Some("stop_sequence") {
                message.stop_sequence = self.stop.found();
            }
        }
    }

    fn end(&mut self, out: &mut EventData) {
        let progress = &mut self.progress;
        progress.begin(out);
        progress.close(out);
        let message = &progress.message;
        let delta =
            json!({"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence});
        tell("message_delta", json!({"delta": delta, "usage": message.usage}), out);
        tell("message_stop", json!({}), out);
    }

    fn failed(&mut self, error: &ApiError, out: &mut EventData) {
        out.push_named("error", &anthropic_event(error));
    }
}
