//! `ServerTeacher`: answers over several connections at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::exchange::Exchange;
use super::{ServerTeacherError, ServerTeacherOptions, wire};
use crate::error::Error;
use crate::training::generations::{AnswerSource, Answered, Asking, Question};

/// Questions of a connection before rows are written.
const QUESTIONS_PER_CONNECTION: usize = 4;

/// A teacher behind an OpenAI-compatible server.
///
/// A server that refuses `logprobs` is asked without them from then on.
pub struct ServerTeacher {
    options: ServerTeacherOptions,
    exchange: Exchange,
    logprobs: AtomicBool,
}

impl ServerTeacher {
    /// A teacher at the server of `options`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ServerTeacherError::Request`] for an address that is none.
    pub fn new(options: ServerTeacherOptions) -> Result<Self, ServerTeacherError> {
        let exchange = Exchange::new(&options)?;
        let logprobs = AtomicBool::new(options.top_logprobs > 0);
        Ok(Self { options, exchange, logprobs })
    }

    /// The address that is asked.
    pub fn url(&self) -> &str {
        &self.exchange.url
    }

    fn answer(
        &self,
        question: &Question<'_>,
        asking: &Asking<'_>,
        broken: &AtomicBool,
    ) -> Answered {
        let is_stopped = || asking.is_stopped() || broken.load(Ordering::Relaxed);
        let sampling = asking.sampling_of(question);
        loop {
            let logprobs = self.logprobs.load(Ordering::Relaxed);
            let body = wire::request(&self.options, question.conversation, &sampling, logprobs)
                .to_string();
            let (status, reply) = match self.exchange.post(body.as_bytes(), &is_stopped) {
                Ok(Some(reply)) => reply,
                Ok(None) => return Answered::Unanswered,
                Err(ServerTeacherError::Status { status: 400 | 422, message, .. })
                    if logprobs && message.contains("logprob") =>
                {
                    self.logprobs.store(false, Ordering::Relaxed);
                    continue;
                }
                Err(error) if error.is_of_question() => {
                    return Answered::Refused(error.to_string());
                }
                Err(error) => return Answered::Failed(error.into()),
            };
            return match wire::answer(&reply) {
                Ok(answer) => Answered::Answer(answer),
                Err(reason) => {
                    let url = self.exchange.url.clone();
                    let error = ServerTeacherError::Malformed { url, status, reason };
                    Answered::Failed(error.into())
                }
            };
        }
    }
}

impl AnswerSource for ServerTeacher {
    fn name(&self) -> String {
        format!("{} {} logprobs {}", self.url(), self.options.model, self.options.top_logprobs)
    }

    fn at_once(&self) -> usize {
        self.options.parallel.max(1) * QUESTIONS_PER_CONNECTION
    }

    fn answers(
        &self,
        questions: &[Question<'_>],
        asking: &Asking<'_>,
    ) -> Result<Vec<Answered>, Error> {
        let answers: Vec<Mutex<Answered>> =
            questions.iter().map(|_| Mutex::new(Answered::Unanswered)).collect();
        let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // One failure is enough: the others would fail as well, each after all its repetitions.
        let broken = AtomicBool::new(false);
        let work = || {
            while !broken.load(Ordering::Relaxed) && !asking.is_stopped() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(question) = questions.get(index) else { break };
                let answer = self.answer(question, asking, &broken);
                if matches!(answer, Answered::Failed(_)) {
                    broken.store(true, Ordering::Relaxed);
                }
                *answers[index].lock().unwrap_or_else(PoisonError::into_inner) = answer;
                (asking.tell)(ended.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.options.parallel.clamp(1, questions.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        let answers = answers.into_iter();
        let answers =
            answers.map(|answer| answer.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(ended_by_failure(answers.collect()))
    }
}

/// The answers, of which the first that is missing names the failure that was its cause, where there is one.
fn ended_by_failure(mut answers: Vec<Answered>) -> Vec<Answered> {
    let missing = answers.iter().position(|answer| matches!(answer, Answered::Unanswered));
    let failed = answers.iter().position(|answer| matches!(answer, Answered::Failed(_)));
    if let (Some(missing), Some(failed)) = (missing, failed)
        && missing < failed
    {
        answers.swap(missing, failed);
    }
    answers
}
