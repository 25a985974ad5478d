//! Many prompts at once, and single ones that are no conversation.

use std::sync::atomic::AtomicBool;

use lightglm_generation::{GenerationRequest, SamplingParams, Step};
use lightglm_text::{ChatText, Message};

use super::Model;
use super::reply::Reply;
use super::runtime::{self, Session};
use crate::error::Error;

/// What is to be continued.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// A text as it is, with what the tokenizer puts in front of every text.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

/// A prompt and how its reply is sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be continued.
    pub prompt: Prompt,
    /// How; if omitted as the model's own configuration says.
    pub sampling: Option<SamplingParams>,
}

impl Request {
    /// A question.
    pub fn ask(question: impl Into<String>) -> Self {
        Self { prompt: Prompt::Chat(vec![Message::user(question)]), sampling: None }
    }

    /// A text to be continued as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self { prompt: Prompt::Text(text.into()), sampling: None }
    }

    /// With sampling of its own.
    pub fn with_sampling(self, params: SamplingParams) -> Self {
        Self { sampling: Some(params), ..self }
    }
}

impl From<&str> for Request {
    fn from(question: &str) -> Self {
        Self::ask(question)
    }
}

impl Model {
    /// Continues one prompt, streaming nothing.
    ///
    /// # Errors
    /// Where the prompt cannot be encoded, is empty, or does not fit.
    pub fn complete(&self, request: impl Into<Request>) -> Result<Reply, Error> {
        let mut replies = self.run([request.into()], &AtomicBool::new(false), &mut |_, _| ())?;
        replies.remove(0)
    }

    /// Continues several prompts together: a decode step reads every weight once for all of them.
    /// Each gets what it would get alone.
    ///
    /// # Errors
    /// Where no prompt could be run at all ([`Error::OneConversation`]); what is wrong with a single
    /// one is its own result.
    pub fn batch<R: Into<Request>>(
        &self,
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.batch_with(requests, &mut |_, _| ())
    }

    /// As [`batch`](Self::batch); `on_step` is told a request's index and its step as it comes.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn batch_with<R: Into<Request>>(
        &self,
        requests: impl IntoIterator<Item = R>,
        on_step: &mut dyn FnMut(usize, &Step),
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.batch_until(requests, &AtomicBool::new(false), on_step)
    }

    /// As [`batch_with`](Self::batch_with); once `stop` is raised, replies that have not ended end as cancelled.
    pub(crate) fn batch_until<R: Into<Request>>(
        &self,
        requests: impl IntoIterator<Item = R>,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(usize, &Step),
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.refuse_one_conversation("batch")?;
        self.run(requests.into_iter().map(Into::into), stop, on_step)
    }

    fn run(
        &self,
        requests: impl IntoIterator<Item = Request>,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(usize, &Step),
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        let text = self.text();
        let mut replies: Vec<Result<Reply, Error>> = Vec::new();
        let (mut ready, mut indices) = (Vec::new(), Vec::new());
        let mut longest = 0;
        let mut chat_opening: Option<String> = None;
        for Request { prompt, sampling } in requests {
            let params = sampling.unwrap_or_else(|| self.sampling().clone());
            let opening = match prompt {
                Prompt::Chat(_) => &*chat_opening.get_or_insert_with(|| text.reply_opening(false)),
                Prompt::Text(_) | Prompt::Tokens(_) => "",
            };
            let detokenizer = text.reply_detokenizer(opening);
            let encoded = match prompt {
                Prompt::Chat(messages) => text.encode_chat(&messages, &[]),
                Prompt::Text(prompt) => text.encode_prompt(&prompt),
                Prompt::Tokens(tokens) => Ok(tokens),
            };
            let limit = self.max_context();
            let tokens = match encoded {
                Ok(tokens) if tokens.len() >= limit => {
                    let tokens = tokens.len();
                    replies.push(Err(Error::ConversationTooLong { tokens, limit }));
                    continue;
                }
                Ok(tokens) => tokens,
                Err(error) => {
                    replies.push(Err(error.into()));
                    continue;
                }
            };
            longest = longest.max(tokens.len().saturating_add(params.max_tokens).min(limit));
            indices.push(replies.len());
            let eos = text.eos_token_ids().to_vec();
            let prompt_token_ids = tokens.clone();
            ready.push(GenerationRequest::new(tokens, params, eos, detokenizer));
            replies.push(Ok(Reply { prompt_token_ids, ..Reply::default() }));
        }
        if ready.is_empty() {
            return Ok(replies);
        }
        if self.inner.runtime.is_for_one_conversation() {
            let mut session = self.inner.runtime.session(longest);
            for (&index, request) in indices.iter().zip(ready) {
                let replied = complete_alone(&mut *session, request, &mut replies[index]);
                if let Err(error) = replied {
                    replies[index] = Err(error);
                }
            }
            return Ok(replies);
        }
        let mut tell = |ready: usize, step: &Step| on_step(indices[ready], step);
        let generations = self.inner.runtime.batch(ready, longest, stop, &mut tell)?;
        for (&index, generation) in indices.iter().zip(generations) {
            match (generation, &mut replies[index]) {
                (Ok(generation), Ok(reply)) => {
                    generation.steps.iter().for_each(|step| reply.push(step));
                }
                (Err(error), reply) => *reply = Err(error.into()),
                (Ok(_), Err(_)) => {}
            }
        }
        Ok(replies)
    }
}

/// Runs the request of [`Model::complete`] where sequences cannot share steps.
fn complete_alone(
    session: &mut dyn Session,
    request: runtime::Request,
    reply: &mut Result<Reply, Error>,
) -> Result<(), Error> {
    for step in session.generate(request, Box::new(|_| ()))? {
        let step = step?;
        if let Ok(reply) = reply {
            reply.push(&step);
        }
    }
    Ok(())
}
