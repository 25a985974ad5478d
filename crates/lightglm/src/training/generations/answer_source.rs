//! `AnswerSource`: whoever answers.

use std::sync::atomic::{AtomicBool, Ordering};

use lightglm_generation::SamplingParams;
use lightglm_train::data::Conversation;
use serde_json::Value;

use crate::error::Error;
use crate::training::token_logprobs::TokenLogprobs;

/// Who answers the questions of conversations: a [`Model`](crate::Model), or a server.
pub trait AnswerSource {
    /// What it is, as far as answers depend on it.
    fn name(&self) -> String;

    /// Questions that it answers in one go, at least one.
    fn at_once(&self) -> usize;

    /// The answers, one for each question, in their order. `asking` is told how many there are as they come, and
    /// says when to stop.
    ///
    /// # Errors
    /// Where nothing can be asked at all; what is wrong with one question is its own result.
    fn answers(
        &self,
        questions: &[Question<'_>],
        asking: &Asking<'_>,
    ) -> Result<Vec<Answered>, Error>;
}

/// The last question of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The conversation; its last answer is not the teacher's to see.
    pub conversation: &'a Conversation,
    /// Which of the prompts it is, from 0.
    pub prompt: u64,
    /// Which of the prompt's answers is asked for, from 0.
    pub sample: u64,
    /// Seeds the answer.
    pub seed: u64,
}

/// How questions are asked.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// How answers are sampled, but for the seed, which is the question's.
    pub sampling: &'a SamplingParams,
    /// Raised once nobody wants further answers.
    pub stop: &'a AtomicBool,
    /// Told how many of the questions are answered; of several numbers the largest counts.
    pub tell: &'a (dyn Fn(usize) + Sync),
}

impl Asking<'_> {
    /// How the answer to `question` is sampled.
    pub fn sampling_of(&self, question: &Question<'_>) -> SamplingParams {
        SamplingParams { seed: question.seed, ..self.sampling.clone() }
    }

    /// Whether nobody wants further answers. Whoever watches is asked, too.
    pub fn is_stopped(&self) -> bool {
        // No fewer than were told before: it says where the work is.
        (self.tell)(0);
        self.stop.load(Ordering::Relaxed)
    }
}

/// What became of a question.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answered {
    /// It was answered.
    Answer(TeacherAnswer),
    /// It cannot be answered, whenever it is asked: too long a conversation, say.
    Refused(String),
    /// The teacher failed: later questions would fail, too.
    Failed(Error),
    /// The work was broken off before.
    Unanswered,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TeacherAnswer {
    /// The text, without what the chat template writes in front of it.
    pub text: String,
    /// Thoughts in front of it, where the teacher tells them apart.
    pub reasoning: Option<String>,
    /// Calls of tools, as OpenAI has them.
    pub tool_calls: Vec<Value>,
    /// Whether it did not come to its own end.
    pub is_cut: bool,
    /// The likeliest tokens in the place of each of its tokens, where the teacher says so.
    pub logprobs: Option<Vec<TokenLogprobs>>,
}

impl TeacherAnswer {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.tool_calls.is_empty()
    }
}
