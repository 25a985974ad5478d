//! One request over HTTP, and when its pieces came.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Sends completions to a server that speaks OpenAI's API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    model: Option<String>,
    api_key: Option<String>,
    max_tokens: usize,
}

/// A reply that came to its end.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// From the request to the first text.
    pub first: Duration,
    /// Between one piece of text and the next.
    pub gaps: Vec<Duration>,
    /// From the request to the end.
    pub total: Duration,
    /// As the server counts them.
    pub prompt_tokens: u64,
    /// As the server counts them.
    pub completion_tokens: u64,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was answered.
    Answered(Reply),
    /// The client hung up, as it was told to.
    HungUp,
    /// The server refused: the HTTP status, 0 where there was no response, and its words.
    Refused {
        /// The status.
        status: u16,
        /// Why.
        reason: String,
    },
}

impl Client {
    /// A client of the server at `url`, for replies of exactly `max_tokens` tokens.
    ///
    /// # Errors
    /// Where the operating system gives no sockets.
    pub fn new(
        url: &str,
        model: Option<String>,
        api_key: Option<String>,
        max_tokens: usize,
    ) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build().context("an HTTP client")?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http, url, model, api_key, max_tokens })
    }

    /// Streams the continuation of `prompt`; hangs up after `hang_up` where that is given.
    pub async fn complete(&self, prompt: &str, seed: u64, hang_up: Option<Duration>) -> Outcome {
        let exchange = self.exchange(prompt, seed);
        match hang_up {
            None => exchange.await,
            Some(after) => match tokio::time::timeout(after, exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::HungUp,
            },
        }
    }

    async fn exchange(&self, prompt: &str, seed: u64) -> Outcome {
        // `ignore_eos` as in vLLM and llama.cpp: every reply is as long as the next.
        let mut body = json!({
            "prompt": prompt,
            "max_tokens": self.max_tokens,
            "temperature": 0.0,
            "seed": seed,
            "stream": true,
            "stream_options": {"include_usage": true},
            "ignore_eos": true,
        });
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        let mut request = self.http.post(format!("{}/v1/completions", self.url)).json(&body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let start = Instant::now();
        match self.read(request, start).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused { status: 0, reason: format!("{error:#}") },
        }
    }

    async fn read(&self, request: reqwest::RequestBuilder, start: Instant) -> Result<Outcome> {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Ok(Outcome::Refused { status, reason: response.text().await? });
        }
        let (mut reply, mut last, mut pending) = (Reply::default(), None, Vec::new());
        let mut is_whole = false;
        while let Some(chunk) = response.chunk().await? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                if data.trim_ascii() == b"[DONE]" {
                    is_whole = true;
                    continue;
                }
                let event: Value =
                    serde_json::from_slice(data).context("an event of the stream")?;
                if let Some(error) = event.get("error") {
                    return Ok(Outcome::Refused { status, reason: error.to_string() });
                }
                let now = Instant::now();
                if event["choices"].get(0).is_some_and(|choice| choice["text"].is_string()) {
                    match last.replace(now) {
                        None => reply.first = now - start,
                        Some(before) => reply.gaps.push(now - before),
                    }
                }
                if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
                    reply.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
                    reply.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
                }
            }
        }
        if !is_whole || last.is_none() {
            return Ok(Outcome::Refused { status, reason: "the stream ended early".into() });
        }
        reply.total = start.elapsed();
        Ok(Outcome::Answered(reply))
    }
}
