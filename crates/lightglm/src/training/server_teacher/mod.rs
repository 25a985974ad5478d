//! A teacher behind an OpenAI-compatible server, of which only its answers can be had, and what it says of their
//! tokens: `POST {base}/v1/chat/completions` with `logprobs` and `top_logprobs`.
//!
//! It answers as an [`AnswerSource`](super::generations::AnswerSource), so that
//! [`generate_rows`](super::generations::generate_rows) makes rows of it.
//! [`TrainingModel::recorded`](super::TrainingModel::recorded) makes a teacher of the rows, where the server's tokens
//! are the student's.

mod client;
mod error;
mod exchange;
mod wire;

use std::fmt;
use std::time::Duration;

pub use client::ServerTeacher;
pub use error::ServerTeacherError;

/// Where a teacher is, and how it is asked.
#[derive(Clone)]
pub struct ServerTeacherOptions {
    /// The server's address, `http://127.0.0.1:8000`; with or without `/v1` behind it.
    pub server: String,
    /// The model's name there.
    pub model: String,
    /// The key, where the server wants one.
    pub api_key: Option<String>,
    /// The likeliest tokens that are asked for in each place, 0 for no log-probabilities at all. OpenAI and vLLM have
    /// 20 at most.
    pub top_logprobs: usize,
    /// Requests at a time.
    pub parallel: usize,
    /// How long an answer may take, from the request to its last byte.
    pub timeout: Duration,
    /// How often a request is sent again that found the server busy (429), failing (5xx) or not there.
    pub retries: u32,
    /// How long the first repetition waits, where the server does not say (`Retry-After`); each further one waits twice
    /// as long.
    pub backoff: Duration,
    /// Bytes of an answer at most.
    pub max_body: u64,
}

impl ServerTeacherOptions {
    /// Four requests at a time, each of ten minutes and 16 MiB at most, five repetitions, the 20 likeliest tokens.
    pub fn new(server: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            model: model.into(),
            api_key: None,
            top_logprobs: 20,
            parallel: 4,
            timeout: Duration::from_secs(600),
            retries: 5,
            backoff: Duration::from_secs(1),
            max_body: 16 << 20,
        }
    }
}

/// All but the key.
impl fmt::Debug for ServerTeacherOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTeacherOptions")
            .field("server", &self.server)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| ".."))
            .field("top_logprobs", &self.top_logprobs)
            .field("parallel", &self.parallel)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}
