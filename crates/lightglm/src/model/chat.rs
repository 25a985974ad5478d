//! `Chat`: a conversation with a model.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lightglm_generation::{
    CancelToken, GenerationRequest, PrefillProgress, SamplingParams, Step, ThinkingControl,
};
#[cfg(feature = "structured")]
use lightglm_serve::structured::Constraint;
use lightglm_text::{ChatText, Message};
use serde_json::{Map, Value};

use super::Model;
use super::reply::{Reply, Speed};
use super::runtime::{Session, Steps};
use super::turn::{IntoTurn, Medium, Turn};
use crate::error::Error;

/// Called after every chunk of a prompt that the model has read.
type OnPrefill = Box<dyn FnMut(PrefillProgress) + Send>;

/// A conversation with a model: it remembers what was said, and what the model's cache holds already
/// is not computed again.
///
/// The whole conversation is rendered anew for each turn by the model's own chat template. Text that
/// a person typed never becomes a control token.
///
/// ```no_run
/// # use lightglm::{LoadOptions, Model};
/// # let model = Model::open("glm-4-9b-0414", LoadOptions::default())?;
/// let mut chat = model.chat();
/// for piece in chat.ask("How do I return an order?")? {
///     print!("{}", piece?);
/// }
/// let reply = chat.ask("And without the receipt?")?.finish()?;
/// println!("{} ({} tokens)", reply.text, reply.token_ids.len());
/// # Ok::<(), lightglm::Error>(())
/// ```
pub struct Chat {
    model: Model,
    session: Box<dyn Session>,
    state: State,
    on_prefill: Option<OnPrefill>,
}

/// What a turn reads and writes beside the session, which it borrows.
struct State {
    /// Instructions that stand before the conversation.
    system: Option<String>,
    /// A text that every question is asked about.
    context: Option<String>,
    tools: Vec<Value>,
    /// Of the chat template.
    variables: Map<String, Value>,
    /// Tokens of thoughts at most.
    thinking_budget: Option<usize>,
    history: Vec<Message>,
    params: SamplingParams,
    #[cfg(feature = "structured")]
    constraint: Option<Constraint>,
    cancel: CancelToken,
    /// Tokens that the cache may hold: those of the last turn's prompt and reply.
    tokens: Vec<u32>,
    /// Of the ids of media among them.
    epoch: u64,
    /// Pictures and recordings of each message of the history.
    media: Vec<Vec<Arc<Medium>>>,
}

impl Chat {
    pub(super) fn new(model: Model) -> Self {
        let session = model.inner.runtime.session(model.max_context());
        let state = State {
            system: None,
            context: None,
            tools: Vec::new(),
            variables: Map::new(),
            thinking_budget: None,
            history: Vec::new(),
            params: model.sampling().clone(),
            #[cfg(feature = "structured")]
            constraint: None,
            cancel: CancelToken::new(),
            tokens: Vec::new(),
            epoch: 0,
            media: Vec::new(),
        };
        Self { model, session, state, on_prefill: None }
    }

    /// With instructions that stand before the conversation.
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.state.system = Some(system.into());
        self
    }

    /// With tools that the model may call: OpenAI's tool objects.
    pub fn with_tools(mut self, tools: Vec<Value>) -> Self {
        self.state.tools = tools;
        self
    }

    /// With values for variables of the chat template's own, such as `enable_thinking`. A name that the
    /// template does not read is an error of the next turn.
    pub fn with_template_variables(mut self, variables: Map<String, Value>) -> Self {
        self.state.variables = variables;
        self
    }

    /// With at most so many tokens of thoughts in front of an answer, for a model that writes
    /// `<think>...</think>`; then it has to answer. A constrained answer has no thoughts.
    pub fn with_thinking_budget(mut self, tokens: usize) -> Self {
        self.state.thinking_budget = Some(tokens);
        self
    }

    /// With other sampling than the checkpoint's own.
    pub fn with_sampling(mut self, params: SamplingParams) -> Self {
        self.state.params = params;
        self
    }

    /// With answers that follow `constraint`: a JSON schema, a regular expression, a grammar.
    #[cfg(feature = "structured")]
    pub fn with_constraint(mut self, constraint: Constraint) -> Self {
        self.state.constraint = Some(constraint);
        self
    }

    /// Calls `on_prefill` after every chunk of a prompt: a long document takes a while to read.
    pub fn with_prefill_callback(
        mut self,
        on_prefill: impl FnMut(PrefillProgress) + Send + 'static,
    ) -> Self {
        self.on_prefill = Some(Box::new(on_prefill));
        self
    }

    /// Asks `question` and returns the answer as it is generated; both become part of the
    /// conversation. An answer that is dropped before its end stays in it as far as it came.
    ///
    /// # Errors
    /// Where the template refuses the conversation, the conversation has outgrown
    /// [`LoadOptions::max_context`](crate::LoadOptions::max_context), or sampling parameters are
    /// wrong; the conversation is then as it was.
    pub fn ask(&mut self, question: &str) -> Result<Answer<'_>, Error> {
        self.say(Message::user(question))
    }

    /// As [`ask`](Self::ask), with any message: what a tool returned
    /// ([`Message::observation`]), say, or one with pictures and recordings in it ([`user`](crate::user)).
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn say(&mut self, turn: impl IntoTurn) -> Result<Answer<'_>, Error> {
        let Self { model, session, state, on_prefill } = self;
        let turn = turn.into_turn()?;
        let text = model.text();
        let messages = state.messages(&turn.message);
        let prompt = text.encode_chat_with(&messages, &state.tools, &state.variables)?;
        let opening = text.reply_opening(!state.tools.is_empty());
        // What is constrained is so from its first token on: its opening, which a call does not have, is said
        // for it.
        #[cfg(feature = "structured")]
        let (prompt, opening) = match &state.constraint {
            None => (prompt, opening),
            Some(Constraint::ToolCall { .. }) => (prompt, String::new()),
            Some(_) => (text.open_reply(prompt, &opening)?, String::new()),
        };
        let media: Vec<_> = state.media.iter().chain([&turn.media]).flatten().cloned().collect();
        let (prompt, runs, contents) = model.placed(prompt, &media)?;
        // Ids of another epoch are those of other contents.
        let epoch = contents.first().map_or(state.epoch, |content| content.epoch);
        if std::mem::replace(&mut state.epoch, epoch) != epoch {
            state.tokens.clear();
        }
        let limit = model.max_context();
        if prompt.len() >= limit {
            return Err(Error::ConversationTooLong { tokens: prompt.len(), limit });
        }
        #[cfg(feature = "structured")]
        let processor =
            state.constraint.as_ref().map(|constraint| model.constrain(constraint)).transpose()?;
        #[cfg(feature = "structured")]
        let is_free = processor.is_none();
        #[cfg(not(feature = "structured"))]
        let is_free = true;
        let thoughts = match state.thinking_budget.filter(|_| is_free) {
            Some(budget) => {
                let end = text.encode_thoughts_end()?;
                let thinking = text.thinking(&prompt);
                let control = ThinkingControl::new(thinking, text.detokenizer(), end);
                Some(control.with_budget(budget))
            }
            None => None,
        };
        // Keep what the cache holds already, but run at least one token for its logits.
        state.tokens.truncate(session.reusable());
        let shared = state.tokens.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        let shared = shared.min(prompt.len() - 1);
        session.truncate(shared)?;
        state.tokens.truncate(shared);
        state.cancel.reset();
        let request = GenerationRequest::new(
            prompt[shared..].to_vec(),
            state.params.clone(),
            text.eos_token_ids().to_vec(),
            text.reply_detokenizer(&opening),
        )
        .with_history(prompt[..shared].to_vec())
        .with_media(runs)
        .with_cancel(state.cancel.clone());
        #[cfg(feature = "structured")]
        let request = processor.into_iter().fold(request, GenerationRequest::with_processor);
        let request = thoughts.into_iter().fold(request, GenerationRequest::with_processor);
        let speed = Speed { prompt_tokens: prompt.len() - shared, ..Speed::default() };
        let steps = session.generate(
            request,
            Box::new(move |progress| {
                if let Some(on_prefill) = on_prefill {
                    on_prefill(progress);
                }
            }),
        )?;
        let reply = Reply { prompt_token_ids: prompt.clone(), speed, ..Reply::default() };
        state.tokens = prompt;
        Ok(Answer {
            steps,
            state,
            turn: Some(turn),
            has_begun: false,
            reply,
            started: Instant::now(),
        })
    }

    /// What was said so far, instructions and context aside.
    pub fn history(&self) -> &[Message] {
        &self.state.history
    }

    /// Forgets what was said.
    pub fn clear(&mut self) {
        self.state.history.clear();
        self.state.media.clear();
    }

    /// Sets or drops the instructions, and forgets what was said under others.
    pub fn set_system(&mut self, system: Option<String>) {
        self.state.system = system;
        self.clear();
    }

    /// Sets or drops the text that questions are asked about.
    pub fn set_context(&mut self, context: Option<String>) {
        self.state.context = context;
    }

    /// Removes the last question and its answer from the conversation, to ask again.
    pub fn take_last_question(&mut self) -> Option<String> {
        let history = &mut self.state.history;
        let last = history.iter().rposition(|message| message.role == "user")?;
        let question = history.drain(last..).next()?;
        self.state.media.truncate(last);
        question.content?.as_str().map(String::from)
    }

    /// How answers are sampled, to be changed between questions.
    pub fn sampling_mut(&mut self) -> &mut SamplingParams {
        &mut self.state.params
    }

    /// Ends an answer from another thread, before its next token.
    pub fn cancel_token(&self) -> CancelToken {
        self.state.cancel.clone()
    }

    /// Tokens that the cache holds.
    pub fn tokens_held(&self) -> usize {
        self.session.held()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = &self.state.history;
        f.debug_struct("Chat").field("history", history).finish_non_exhaustive()
    }
}

impl State {
    /// The conversation with `next` at its end, as the template is given it.
    fn messages(&self, next: &Message) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.history.len() + 2);
        messages.extend(self.system.clone().map(Message::system));
        messages.extend(self.history.iter().cloned());
        let question = next.content.as_ref().and_then(Value::as_str);
        messages.push(match (&self.context, question) {
            (Some(context), Some(question)) if next.role == "user" => {
                Message::user(format!("{context}\n\nAnswer from the text above. {question}"))
            }
            _ => next.clone(),
        });
        messages
    }
}

/// An answer as it is generated: an iterator over its [`Step`]s, each of which prints as its text.
///
/// The text of all steps, put together, is the answer: no stop string, no half character.
pub struct Answer<'a> {
    steps: Steps<'a>,
    state: &'a mut State,
    /// What was asked; it becomes part of the conversation with the answer.
    turn: Option<Turn>,
    /// Whether there was a step.
    has_begun: bool,
    reply: Reply,
    started: Instant,
}

impl Answer<'_> {
    /// Runs to the end.
    ///
    /// # Errors
    /// Where the model or the sampler fails.
    pub fn finish(mut self) -> Result<Reply, Error> {
        for step in self.by_ref() {
            step?;
        }
        self.remember();
        Ok(std::mem::take(&mut self.reply))
    }

    /// The reply as far as it came.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    fn take(&mut self, step: &Step) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let speed = &mut self.reply.speed;
        if speed.prompt_seconds == 0.0 {
            speed.prompt_seconds = elapsed;
        }
        speed.decode_seconds = elapsed - speed.prompt_seconds;
        self.reply.push(step);
        self.state.tokens.extend(step.token);
        self.has_begun = true;
    }

    /// Makes question and answer part of the conversation, once: where the answer is at its end, or is
    /// dropped.
    fn remember(&mut self) {
        let Some(turn) = self.turn.take().filter(|_| self.has_begun) else { return };
        let Turn { message, media } = turn;
        self.state.history.push(message);
        self.state.media.push(media);
        self.state.history.push(Message::assistant(self.reply.text.clone()));
        self.state.media.push(Vec::new());
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.remember();
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<Step, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.steps.next()?;
        if let Ok(step) = &step {
            self.take(step);
        }
        Some(step)
    }
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("reply", &self.reply).finish_non_exhaustive()
    }
}
