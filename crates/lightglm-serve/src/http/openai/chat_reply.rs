//! The reply of a chat: in one piece, or in chunks.

use std::sync::Arc;

use lightglm_generation::{FinishReason, Step};
use lightglm_text::{ChatText, Thinking};
use serde::Serialize;

use super::logprobs::ChatLogprobs;
use super::tools::{Calls, Piece, ReplySplitter};
use super::usage::Usage;
use crate::http::choice_stream::{ChoiceEvent, ChoiceStream};
use crate::http::error::ApiError;
use crate::http::models::ModelState;
use crate::http::sse::{Encode, EventData};
use crate::http::state::unix_time;

/// A reply.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ChatCompletion {
    /// A new one for each request.
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// Which model answered.
    model: String,
    /// The choices.
    choices: Vec<ChatChoice>,
    /// What it took.
    usage: Usage,
}

/// A choice.
#[derive(Serialize, utoipa::ToSchema)]
struct ChatChoice {
    /// From 0.
    index: usize,
    /// What is said.
    message: ReplyMessage,
    /// Log-probabilities, where they were asked for.
    #[schema(required)]
    logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: &'static str,
}

/// What the model says.
#[derive(Serialize, utoipa::ToSchema)]
struct ReplyMessage {
    /// `assistant`.
    role: &'static str,
    /// The text; absent where there are calls alone.
    #[schema(required)]
    content: Option<String>,
    /// What the model thought before it spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// There is none.
    #[schema(required)]
    refusal: Option<String>,
    /// The calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallObject>,
}

/// A call.
#[derive(Serialize, utoipa::ToSchema)]
struct ToolCallObject {
    /// A new one for each call.
    id: String,
    /// `function`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The function.
    function: FunctionObject,
}

/// A function and its arguments.
#[derive(Serialize, utoipa::ToSchema)]
struct FunctionObject {
    /// The function's name.
    name: String,
    /// JSON, as a text.
    arguments: String,
}

/// A part of a reply that is streamed.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ChatCompletionChunk<'a> {
    /// The same for all chunks of a reply.
    id: &'a str,
    /// `chat.completion.chunk`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// Which model answers.
    model: &'a str,
    /// The choice that goes on; none in the chunk that tells the usage.
    #[schema(value_type = Vec<ChunkChoice>)]
    choices: &'a [ChunkChoice],
    /// In the last chunk, where `include_usage` asks for it; null in those before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<&'a Usage>>,
}

/// How a choice goes on.
#[derive(Serialize, utoipa::ToSchema)]
struct ChunkChoice {
    /// From 0.
    index: usize,
    /// What is new.
    delta: Delta,
    /// Log-probabilities, where they were asked for.
    #[schema(required)]
    logprobs: Option<ChatLogprobs>,
    /// In the choice's last chunk: `stop`, `length` or `tool_calls`.
    #[schema(required)]
    finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Serialize, Default, utoipa::ToSchema)]
struct Delta {
    /// `assistant`, in the choice's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// More of what the model thinks before it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// More of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCallDelta; 1]>,
}

/// More of a call.
#[derive(Serialize, utoipa::ToSchema)]
struct ToolCallDelta {
    /// Which call, from 0.
    index: usize,
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// In the call's first chunk: `function`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// The function.
    function: FunctionDelta,
}

/// More of a function's name and arguments.
#[derive(Serialize, utoipa::ToSchema)]
struct FunctionDelta {
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// More of the arguments.
    arguments: String,
}

/// A reply that is about to come.
pub(in crate::http) struct ChatReply {
    pub(in crate::http) state: ModelState,
    text: Arc<dyn ChatText>,
    id: String,
    pub(in crate::http) created: u64,
    pub(in crate::http) model: String,
    logprobs: bool,
    splitters: Vec<ReplySplitter>,
    pub(in crate::http) usage: Usage,
}

impl ChatReply {
    /// A reply of `n` choices.
    pub(in crate::http) fn new(
        state: &ModelState,
        model: String,
        n: usize,
        logprobs: bool,
        calls: &Calls,
        thinking: Thinking,
    ) -> Self {
        Self {
            text: state.model.text.clone(),
            id: state.new_id("chatcmpl-"),
            state: state.clone(),
            created: unix_time(),
            model,
            logprobs,
            splitters: (0..n).map(|_| ReplySplitter::new(calls, thinking)).collect(),
            usage: Usage::of_thinking(thinking == Thinking::Opened),
        }
    }

    /// The reply in chunks.
    pub(in crate::http) fn stream(self, include_usage: bool) -> ChatStream {
        let started = vec![false; self.splitters.len()];
        ChatStream { reply: self, started, include_usage, pieces: Vec::new() }
    }

    fn logprobs(&self, step: &Step) -> Option<ChatLogprobs> {
        self.logprobs.then(|| ChatLogprobs::of(step, &*self.text)).flatten()
    }

    /// Takes a token of a choice.
    fn push(&mut self, choice: usize, text: &str, pieces: &mut Vec<Piece>) {
        let splitter = &mut self.splitters[choice];
        let was_thinking = splitter.is_thinking();
        splitter.push(text, pieces);
        if was_thinking || splitter.is_thinking() {
            self.usage.add_reasoning_token();
        }
    }

    /// Takes an event of a choice; what is sure is added to `pieces`. What comes back is the token's
    /// log-probability, where it was asked for, and why the choice ended.
    pub(in crate::http) fn take(
        &mut self,
        choice: usize,
        event: ChoiceEvent,
        pieces: &mut Vec<Piece>,
    ) -> (Option<ChatLogprobs>, Option<&'static str>) {
        match event {
            ChoiceEvent::Prompt(_) => (None, None),
            ChoiceEvent::Step(step) => {
                let logprobs = self.logprobs(&step);
                self.push(choice, &step.text, pieces);
                (logprobs, None)
            }
            ChoiceEvent::Finished { reason, usage } => {
                self.usage.add(usage, choice == 0);
                self.splitters[choice].finish(reason, pieces);
                (None, Some(self.finish_reason(choice, reason)))
            }
        }
    }

    fn finish_reason(&self, choice: usize, reason: FinishReason) -> &'static str {
        match reason {
            FinishReason::Length => "length",
            FinishReason::Repetition => "repetition",
            _ if self.splitters[choice].has_called() => "tool_calls",
            _ => "stop",
        }
    }
}

/// The reply in one piece.
///
/// # Errors
/// Where a choice fails.
pub(in crate::http) async fn collect(
    mut reply: ChatReply,
    mut stream: ChoiceStream,
) -> Result<ChatCompletion, ApiError> {
    let empty = |index| ChatChoice {
        index,
        message: ReplyMessage {
            role: "assistant",
            content: None,
            reasoning_content: None,
            refusal: None,
            tool_calls: Vec::new(),
        },
        logprobs: reply.logprobs.then(ChatLogprobs::default),
        finish_reason: "stop",
    };
    let mut choices: Vec<ChatChoice> = (0..reply.splitters.len()).map(empty).collect();
    let mut pieces = Vec::new();
    while let Some(event) = stream.next().await {
        let (index, event) = event?;
        let choice = &mut choices[index];
        let (logprobs, reason) = reply.take(index, event, &mut pieces);
        if let (Some(all), Some(new)) = (&mut choice.logprobs, logprobs) {
            all.content.extend(new.content);
        }
        choice.finish_reason = reason.unwrap_or(choice.finish_reason);
        for piece in pieces.drain(..) {
            match piece {
                Piece::Reasoning(text) => {
                    choice.message.reasoning_content.get_or_insert_default().push_str(&text);
                }
                Piece::Text(text) => {
                    choice.message.content.get_or_insert_default().push_str(&text);
                }
                Piece::Call(name) => choice.message.tool_calls.push(ToolCallObject {
                    id: reply.state.new_id("call_"),
                    kind: "function",
                    function: FunctionObject { name, arguments: String::new() },
                }),
                Piece::Arguments(more) => {
                    if let Some(call) = choice.message.tool_calls.last_mut() {
                        call.function.arguments.push_str(&more);
                    }
                }
            }
        }
    }
    for choice in &mut choices {
        if choice.message.tool_calls.is_empty() {
            choice.message.content.get_or_insert_default();
        }
    }
    Ok(ChatCompletion {
        id: reply.id,
        object: "chat.completion",
        created: reply.created,
        model: reply.model,
        choices,
        usage: reply.usage,
    })
}

/// The reply in chunks.
pub(in crate::http) struct ChatStream {
    reply: ChatReply,
    /// Which choices have told their role.
    started: Vec<bool>,
    include_usage: bool,
    /// Kept for its memory; empty between two events.
    pieces: Vec<Piece>,
}

impl ChatStream {
    fn chunk<'a>(
        &'a self,
        choices: &'a [ChunkChoice],
        usage: Option<&'a Usage>,
    ) -> ChatCompletionChunk<'a> {
        ChatCompletionChunk {
            id: &self.reply.id,
            object: "chat.completion.chunk",
            created: self.reply.created,
            model: &self.reply.model,
            choices,
            usage: self.include_usage.then_some(usage),
        }
    }

    fn push(&self, choice: ChunkChoice, out: &mut EventData) {
        out.push(&self.chunk(&[choice], None));
    }
}

impl ChunkChoice {
    fn new(index: usize, delta: Delta, logprobs: Option<ChatLogprobs>) -> Self {
        Self { index, delta, logprobs, finish_reason: None }
    }
}

impl Delta {
    fn text(text: String) -> Self {
        Self { content: Some(text), ..Self::default() }
    }

    fn call(index: usize, begin: Option<(String, String)>, arguments: String) -> Self {
        let kind = begin.as_ref().map(|_| "function");
        let (id, name) = begin.unzip();
        let function = FunctionDelta { name, arguments };
        Self { tool_calls: Some([ToolCallDelta { index, id, kind, function }]), ..Self::default() }
    }
}

impl Encode for ChatStream {
    fn event(&mut self, index: usize, event: ChoiceEvent, out: &mut EventData) {
        if !std::mem::replace(&mut self.started[index], true) {
            let delta = Delta { role: Some("assistant"), ..Delta::text(String::new()) };
            self.push(ChunkChoice::new(index, delta, None), out);
        }
        let mut calls = self.reply.splitters[index].calls();
        let mut pieces = std::mem::take(&mut self.pieces);
        let (mut logprobs, reason) = self.reply.take(index, event, &mut pieces);
        for piece in pieces.drain(..) {
            match piece {
                Piece::Reasoning(text) => {
                    let delta = Delta { reasoning_content: Some(text), ..Delta::default() };
                    self.push(ChunkChoice::new(index, delta, logprobs.take()), out);
                }
                Piece::Text(text) => {
                    self.push(ChunkChoice::new(index, Delta::text(text), logprobs.take()), out);
                }
                Piece::Call(name) => {
                    let begin = Some((self.reply.state.new_id("call_"), name));
                    let delta = Delta::call(calls, begin, String::new());
                    self.push(ChunkChoice::new(index, delta, logprobs.take()), out);
                    calls += 1;
                }
                Piece::Arguments(more) => {
                    let delta = Delta::call(calls.saturating_sub(1), None, more);
                    self.push(ChunkChoice::new(index, delta, logprobs.take()), out);
                }
            }
        }
        self.pieces = pieces;
        // A token whose text is held back tells its probability all the same.
        if logprobs.is_some() {
            self.push(ChunkChoice::new(index, Delta::text(String::new()), logprobs), out);
        }
        if let Some(reason) = reason {
            let last = ChunkChoice::new(index, Delta::default(), None);
            self.push(ChunkChoice { finish_reason: Some(reason), ..last }, out);
        }
    }

    fn end(&mut self, out: &mut EventData) {
        if self.include_usage {
            out.push(&self.chunk(&[], Some(&self.reply.usage)));
        }
    }
}
