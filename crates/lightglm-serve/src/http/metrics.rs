//! What Prometheus reads.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::error::ApiError;
use super::state::AppState;
use crate::engine::EngineApi;

/// OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    route: String,
    status: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What is measured here; what the engine counts is asked for when Prometheus reads.
pub(super) struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    rejections: Family<Reason, Counter>,
    encoded: Counter,
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

impl Metrics {
    pub(super) fn new(engine: Arc<dyn EngineApi>) -> Self {
        // From a millisecond to half a minute, and from 0.1 ms to 13 s.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let short = || Histogram::new(exponential_buckets(0.0001, 2.0, 18));
        let metrics = Self {
            registry: Registry::with_prefix("lightglm"),
            answers: Family::default(),
            rejections: Family::default(),
            encoded: Counter::default(),
            timings: Timings {
                first_token: seconds(),
                next_token: short(),
                request: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
                queue: short(),
            },
        };
        metrics.registered(engine)
    }

    fn registered(mut self, engine: Arc<dyn EngineApi>) -> Self {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests by route and status", self.answers.clone());
        let help = "Requests and generations that were not accepted";
        registry.register("rejections", help, self.rejections.clone());
        let help = "Tokens that went through an encoder, for embeddings and scores";
        registry.register("encoder_tokens", help, self.encoded.clone());
        let histograms = [
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
        registry.register_collector(Box::new(EngineCollector(engine)));
        self
    }

    pub(super) fn count(&self, route: &str, status: u16) {
        let answer = Answer { route: route.to_owned(), status: status.into() };
        self.answers.get_or_create(&answer).inc();
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

struct EngineCollector(Arc<dyn EngineApi>);

impl std::fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let free = stats.kv_blocks.saturating_sub(stats.kv_blocks_used + stats.kv_blocks_cached);
        let gauges = [
            ("requests_waiting", "Requests in the queue", stats.waiting),
            ("requests_running", "Requests that hold KV blocks: the batch", stats.running),
            ("kv_blocks", "Blocks of the KV cache", stats.kv_blocks),
            ("kv_blocks_used", "KV blocks that requests hold", stats.kv_blocks_used),
            ("kv_blocks_cached", "KV blocks kept for later prompts", stats.kv_blocks_cached),
            ("kv_blocks_free", "KV blocks with nothing in them", free),
        ];
        let counters = [
            ("steps", "Forward passes", stats.steps),
            ("step_sequences", "Sequences in all forward passes", stats.sequences),
            ("prompt_tokens", "Prompt tokens that were run", stats.prompt_tokens),
            ("cached_tokens", "Prompt tokens found in the cache", stats.cached_tokens),
            ("generated_tokens", "Tokens that were chosen", stats.generated_tokens),
            ("drafted_tokens", "Tokens that speculation proposed", stats.drafted_tokens),
            ("accepted_tokens", "Proposed tokens that were right", stats.accepted_tokens),
            ("preemptions", "Requests that gave their blocks up", stats.preemptions),
            ("requests_finished", "Requests that got their reply", stats.finished),
            ("requests_cancelled", "Requests that were cancelled", stats.cancelled),
            ("requests_failed", "Requests that failed", stats.failed),
            ("requests_rejected", "Requests that the engine did not accept", stats.rejected),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// What the server measures, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "OpenMetrics", body = String,
        content_type = "application/openmetrics-text")
))]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &state.metrics.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => ApiError::Internal.into_response(),
    }
}
