//! What Prometheus reads.

mod process;
mod prometheus_text;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::process::ProcessCollector;
use self::prometheus_text::{Exposition, as_prometheus_text};
use super::error::ApiError;
use super::models::{Library, ModelBytes, Resident};
use super::state::AppState;
use crate::engine::EngineStats;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    route: String,
    status: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A key by its name, which is empty where there is none, and the model that it asked.
///
/// Names of entries and of models that are loaded, never what a client made up.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyAndModel {
    key: String,
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyAnswer {
    key: String,
    model: String,
    status: u32,
}

/// What is measured here; what the engine counts is asked for when Prometheus reads.
pub(super) struct Metrics {
    registry: Registry,
    /// By the names that all programs have for these.
    process: Registry,
    answers: Family<Answer, Counter>,
    key_answers: Family<KeyAnswer, Counter>,
    /// Prompt, cached, completion.
    tokens: [Family<KeyAndModel, Counter>; 3],
    connections: Gauge,
    rejections: Family<Reason, Counter>,
    encoded: Counter,
    media_requests: Gauge,
    media_wait: Histogram,
    media_work: Histogram,
    timings: Timings,
}

/// When things happen to a choice; clones count together.
#[derive(Clone)]
pub(super) struct Timings {
    first_token: Histogram,
    next_token: Histogram,
    request: Histogram,
    queue: Histogram,
}

/// Tokens of a key's requests to a model.
#[derive(Clone)]
pub(super) struct TokenCounters([Counter; 3]);

impl TokenCounters {
    pub(super) fn add(&self, prompt: u64, cached: u64, completion: u64) {
        for (counter, tokens) in self.0.iter().zip([prompt, cached, completion]) {
            counter.inc_by(tokens);
        }
    }
}

/// Something that is counted as long as it lasts.
pub(super) struct Lasting(Gauge);

impl Lasting {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request's pictures or recordings, until they are encoded.
pub(super) struct MediaRequest {
    _lasting: Lasting,
    wait: Histogram,
    work: Histogram,
    since: Instant,
}

impl MediaRequest {
    /// It is their turn.
    pub(super) fn turn(&mut self) {
        self.wait.observe(self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
    }

    /// They are encoded, or refused.
    pub(super) fn done(self) {
        self.work.observe(self.since.elapsed().as_secs_f64());
    }
}

impl Metrics {
    pub(super) fn new(library: Arc<Library>) -> Self {
        // From a millisecond and from 0.1 ms to over 10 minutes, which a request may take.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 21));
        let short = || Histogram::new(exponential_buckets(0.0001, 2.0, 24));
        let metrics = Self {
            registry: Registry::with_prefix("lightglm"),
            process: Registry::default(),
            answers: Family::default(),
            key_answers: Family::default(),
            tokens: Default::default(),
            connections: Gauge::default(),
            rejections: Family::default(),
            encoded: Counter::default(),
            media_requests: Gauge::default(),
            media_wait: short(),
            media_work: seconds(),
            timings: Timings {
                first_token: seconds(),
                next_token: short(),
                request: seconds(),
                queue: short(),
            },
        };
        metrics.registered(library)
    }

    fn registered(mut self, library: Arc<Library>) -> Self {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests by route and status", self.answers.clone());
        let help = "Requests by the key's name, the model and the status";
        registry.register("key_requests", help, self.key_answers.clone());
        let names = ["key_prompt_tokens", "key_cached_tokens", "key_completion_tokens"];
        let helps = [
            "Tokens of prompts by key and model, those from the cache included",
            "Tokens of prompts that the cache held, by key and model",
            "Tokens of replies by key and model",
        ];
        for ((name, help), family) in names.into_iter().zip(helps).zip(&self.tokens) {
            registry.register(name, help, family.clone());
        }
        registry.register("connections", "Open connections", self.connections.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", version);
        self.process.register_collector(Box::new(ProcessCollector));
        let help = "Requests and generations that were not accepted";
        registry.register("rejections", help, self.rejections.clone());
        let help = "Tokens that went through an encoder, for embeddings and scores";
        registry.register("encoder_tokens", help, self.encoded.clone());
        let help = "Requests whose pictures or recordings wait for their turn or have it";
        registry.register("media_requests", help, self.media_requests.clone());
        let histograms = [
            (
                "media_wait_seconds",
                "From a request's pictures or recordings to their turn",
                &self.media_wait,
            ),
            (
                "media_work_seconds",
                "Reading and encoding a request's pictures or recordings",
                &self.media_work,
            ),
            (
                "time_to_first_token_seconds",
                "From submission to the first token",
                &self.timings.first_token,
            ),
            ("inter_token_latency_seconds", "From one token to the next", &self.timings.next_token),
            (
                "request_latency_seconds",
                "From submission to the end of the reply",
                &self.timings.request,
            ),
            (
                "queue_wait_seconds",
                "From submission to the start of the prompt",
                &self.timings.queue,
            ),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
        registry.register_collector(Box::new(EngineCollector(library)));
        self
    }

    /// Counts an answer, of which the key's and the model's names may be known.
    pub(super) fn count(&self, route: &str, status: u16, key: Option<&str>, model: Option<&str>) {
        let status = u32::from(status);
        let answer = Answer { route: route.to_owned(), status };
        self.answers.get_or_create(&answer).inc();
        let [key, model] = [key, model].map(|name| name.unwrap_or_default().to_owned());
        self.key_answers.get_or_create(&KeyAnswer { key, model, status }).inc();
    }

    /// Counts the tokens of a key's requests to a model.
    pub(super) fn tokens(&self, key: &str, model: &str) -> TokenCounters {
        let labels = KeyAndModel { key: key.to_owned(), model: model.to_owned() };
        TokenCounters(std::array::from_fn(|at| self.tokens[at].get_or_create(&labels).clone()))
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn connection(&self) -> Lasting {
        Lasting::begin(&self.connections)
    }

    /// Counts a request with pictures or recordings until what is returned is dropped.
    pub(super) fn media_request(&self) -> MediaRequest {
        MediaRequest {
            _lasting: Lasting::begin(&self.media_requests),
            wait: self.media_wait.clone(),
            work: self.media_work.clone(),
            since: Instant::now(),
        }
    }

    /// All of it as OpenMetrics.
    fn open_metrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    pub(super) fn reject(&self, reason: &'static str) {
        self.rejections.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn encoded(&self, tokens: u64) {
        self.encoded.inc_by(tokens);
    }

    pub(super) fn timings(&self) -> Timings {
        self.timings.clone()
    }
}

impl Timings {
    pub(super) fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    pub(super) fn next_token(&self, after: Duration) {
        self.next_token.observe(after.as_secs_f64());
    }

    pub(super) fn request(&self, after: Duration) {
        self.request.observe(after.as_secs_f64());
    }

    pub(super) fn queue(&self, after: Duration) {
        self.queue.observe(after.as_secs_f64());
    }
}

struct EngineCollector(Arc<Library>);

impl std::fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let library = &self.0;
        let models: Vec<[(&str, String); 1]> =
            library.entries().iter().map(|entry| [("model", entry.name.clone())]).collect();
        let residents: Vec<Option<Arc<Resident>>> =
            (0..models.len()).map(|model| library.resident(model)).collect();
        let stats = |model: usize| residents[model].as_ref().map(|it| it.engine.stats());
        let stats: Vec<Option<EngineStats>> = (0..models.len()).map(stats).collect();
        let mut gauge = |name, help, value: &dyn Fn(usize) -> Option<u64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (model, labels) in models.iter().enumerate() {
                if let Some(value) = value(model) {
                    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                    gauge.encode(family.encode_family(labels)?)?;
                }
            }
            Ok::<(), std::fmt::Error>(())
        };
        gauge("model_loaded", "Whether the model is loaded", &|model| {
            Some(u64::from(residents[model].is_some()))
        })?;
        gauge("model_bytes", "Weights, keys and values of a loaded model", &|model| {
            residents[model].as_ref().map(|it| ModelBytes::total(it.bytes))
        })?;
        for (name, help, value) in GAUGES {
            gauge(name, help, &|model| stats[model].as_ref().map(|stats| value(stats) as u64))?;
        }
        let mut counter = |name, help, value: &dyn Fn(usize) -> Option<u64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (model, labels) in models.iter().enumerate() {
                if let Some(value) = value(model) {
                    ConstCounter::new(value).encode(family.encode_family(labels)?)?;
                }
            }
            Ok::<(), std::fmt::Error>(())
        };
        counter("model_loads", "How often the model was loaded", &|model| {
            Some(library.loads(model))
        })?;
        for (name, help, value) in COUNTERS {
            counter(name, help, &|model| stats[model].as_ref().map(value))?;
        }
        Ok(())
    }
}

/// A name, a help, and which of an engine's figures it is.
type Figure<T> = (&'static str, &'static str, fn(&EngineStats) -> T);

/// What an engine does.
const GAUGES: [Figure<usize>; 6] = [
    ("requests_waiting", "Requests in the queue", |stats| stats.waiting),
    ("requests_running", "Requests that hold KV blocks: the batch", |stats| stats.running),
    ("kv_blocks", "Blocks of the KV cache", |stats| stats.kv_blocks),
    ("kv_blocks_used", "KV blocks that requests hold", |stats| stats.kv_blocks_used),
    ("kv_blocks_cached", "KV blocks kept for later prompts", |stats| stats.kv_blocks_cached),
    ("kv_blocks_free", "KV blocks with nothing in them", |stats| {
        stats.kv_blocks.saturating_sub(stats.kv_blocks_used + stats.kv_blocks_cached)
    }),
];

/// What an engine has done since it was started.
const COUNTERS: [Figure<u64>; 12] = [
    ("steps", "Forward passes", |stats| stats.steps),
    ("step_sequences", "Sequences in all forward passes", |stats| stats.sequences),
    ("prompt_tokens", "Prompt tokens that were run", |stats| stats.prompt_tokens),
    ("cached_tokens", "Prompt tokens found in the cache", |stats| stats.cached_tokens),
    ("generated_tokens", "Tokens that were chosen", |stats| stats.generated_tokens),
    ("drafted_tokens", "Tokens that speculation proposed", |stats| stats.drafted_tokens),
    ("accepted_tokens", "Proposed tokens that were right", |stats| stats.accepted_tokens),
    ("preemptions", "Requests that gave their blocks up", |stats| stats.preemptions),
    ("requests_finished", "Requests that got their reply", |stats| stats.finished),
    ("requests_cancelled", "Requests that were cancelled", |stats| stats.cancelled),
    ("requests_failed", "Requests that failed", |stats| stats.failed),
    ("requests_rejected", "Requests that the engine did not accept", |stats| stats.rejected),
];

/// What the server measures, as OpenMetrics or as Prometheus' older text, whichever is asked for.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "OpenMetrics, or Prometheus' text format 0.0.4", content(
        (String = "application/openmetrics-text"),
        (String = "text/plain"),
    ))
))]
pub(super) async fn metrics(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let exposition = Exposition::asked_for(&headers);
    match state.metrics.open_metrics() {
        Ok(text) => {
            let text = match exposition {
                Exposition::OpenMetrics => text,
                Exposition::Prometheus => as_prometheus_text(&text),
            };
            ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response()
        }
        Err(_) => ApiError::Internal.into_response(),
    }
}
