//! `Exchange`: one request, until there is an answer or no hope of one.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Agent, Body};

use super::ServerTeacherOptions;
use super::error::ServerTeacherError;

/// The longest wait between two tries, whatever the server says.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How often a wait looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);

/// Bytes of a refusal that are read.
const REFUSAL: u64 = 64 << 10;

/// Characters of it that are told.
const TOLD: usize = 300;

/// How requests are sent to one address.
pub(super) struct Exchange {
    agent: Agent,
    pub(super) url: String,
    key: Option<String>,
    timeout: Duration,
    retries: u32,
    backoff: Duration,
    max_body: u64,
}

/// An answer's status and body.
pub(super) type Reply = (u16, Vec<u8>);

/// A failed try, and how long the server wants to be left alone.
type Failure = (ServerTeacherError, Option<Duration>);

impl Exchange {
    /// With the address of `options`.
    pub(super) fn new(options: &ServerTeacherOptions) -> Result<Self, ServerTeacherError> {
        let server = options.server.trim().trim_end_matches('/');
        let base = server.strip_suffix("/v1").unwrap_or(server);
        let url = format!("{base}/v1/chat/completions");
        let scheme = base.split_once("://").map(|(scheme, rest)| (scheme, !rest.is_empty()));
        if !matches!(scheme, Some(("http" | "https", true))) {
            let reason = "an address begins with http:// or https://".to_owned();
            return Err(ServerTeacherError::Request { url, reason });
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A key is for this address alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(options.parallel.max(1))
            .timeout_global(Some(options.timeout));
        let config = match is_loopback(base) {
            true => config.proxy(None),
            false => config,
        };
        Ok(Self {
            agent: config.build().into(),
            url,
            key: options.api_key.clone(),
            timeout: options.timeout,
            retries: options.retries,
            backoff: options.backoff,
            max_body: options.max_body,
        })
    }

    /// Sends `body` until it is answered well; `None` where `is_stopped` says that nobody waits any more.
    pub(super) fn post(
        &self,
        body: &[u8],
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Reply>, ServerTeacherError> {
        let mut wait = self.backoff;
        for left in (0..=self.retries).rev() {
            if is_stopped() {
                return Ok(None);
            }
            match self.once(body) {
                Ok(reply) => return Ok(Some(reply)),
                Err((error, asked)) if left > 0 && error.is_passing() => {
                    if !wait_for(asked.unwrap_or(wait).min(LONGEST_WAIT), is_stopped) {
                        return Ok(None);
                    }
                    wait = wait.saturating_mul(2);
                }
                Err((error, _)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn once(&self, body: &[u8]) -> Result<Reply, Failure> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(body).map_err(|error| (self.explain(error), None))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok((status, self.read(&mut response).map_err(|error| (error, None))?));
        }
        let mut said = Vec::new();
        // What cannot be read of a refusal does not matter.
        let _ = response.body_mut().as_reader().take(REFUSAL).read_to_end(&mut said);
        let message = String::from_utf8_lossy(&said).trim().chars().take(TOLD).collect();
        let error = ServerTeacherError::Status { url: self.url.clone(), status, message };
        Err((error, retry_after(&response)))
    }

    fn read(&self, response: &mut Response<Body>) -> Result<Vec<u8>, ServerTeacherError> {
        let (url, limit) = (|| self.url.clone(), self.max_body);
        if response.body().content_length().is_some_and(|length| length > limit) {
            return Err(ServerTeacherError::TooLarge { url: url(), limit });
        }
        let mut body = Vec::new();
        let mut reader = response.body_mut().as_reader().take(limit.saturating_add(1));
        reader.read_to_end(&mut body).map_err(|error| self.explain(error.into()))?;
        match body.len() as u64 > limit {
            true => Err(ServerTeacherError::TooLarge { url: url(), limit }),
            false => Ok(body),
        }
    }

    fn explain(&self, error: ureq::Error) -> ServerTeacherError {
        let (url, reason) = (self.url.clone(), error.to_string());
        match error {
            ureq::Error::Timeout(_) => ServerTeacherError::Timeout { url, timeout: self.timeout },
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
                ServerTeacherError::Request { url, reason }
            }
            _ => ServerTeacherError::Unreachable { url, reason },
        }
    }
}

/// Whether an address is this machine's, for which no proxy is asked.
fn is_loopback(base: &str) -> bool {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|own| host.starts_with(own))
}

/// The seconds that the server asks for; dates are left to the backoff.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds =
        response.headers().get("retry-after")?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Waits; false where `is_stopped` said so meanwhile.
fn wait_for(wait: Duration, is_stopped: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + wait;
    loop {
        if is_stopped() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(PATIENCE));
    }
}
