//! `Meter`: counts the tokens of a request, for its log line, its key's quota and the metrics.

use std::sync::Arc;
use std::time::Instant;

use lightglm_generation::FinishReason;

use super::request_record::RequestRecord;
use crate::engine::{Event, Usage};
use crate::http::error::ApiError;
use crate::http::keys::tenants::Holder;
use crate::http::metrics::TokenCounters;
use crate::http::state::unix_time;

/// Counts the tokens of a request.
#[derive(Clone)]
pub(in crate::http) struct Meter {
    record: RequestRecord,
    holder: Option<Arc<Holder>>,
    counters: TokenCounters,
}

impl Meter {
    pub(in crate::http) fn new(
        record: RequestRecord,
        holder: Option<Arc<Holder>>,
        counters: TokenCounters,
    ) -> Self {
        Self { record, holder, counters }
    }

    /// One of the request's choices, whose prompt has `prompt_tokens`; `first` says that it is the first of that
    /// prompt, which is counted once.
    pub(in crate::http) fn choice(&self, prompt_tokens: usize, first: bool) -> ChoiceMeter {
        let usage = Usage { prompt_tokens, ..Usage::default() };
        ChoiceMeter { meter: self.clone(), first, started: false, settled: false, usage }
    }

    /// Counts so many tokens that were read and that nothing follows: those of an encoder.
    pub(in crate::http) fn read(&self, tokens: usize) {
        self.choice(tokens, true).hear(&Event::Started { cached_tokens: 0 }, Instant::now());
    }

    /// The prompts' texts, for the log that was asked to have them.
    pub(in crate::http) fn say_prompt(&self, text: &str) {
        self.record.said(|said| {
            let prompt = said.prompt.get_or_insert_default();
            if !prompt.is_empty() {
                prompt.push('\n');
            }
            prompt.push_str(text);
        });
    }

    /// The request has no reply, or not all of one.
    pub(in crate::http) fn failed(&self, error: &ApiError) {
        self.record.said(|said| said.refusal = Some(error.refusal()));
    }
}

/// Counts the tokens of a choice, on the engine's thread.
pub(in crate::http) struct ChoiceMeter {
    meter: Meter,
    first: bool,
    started: bool,
    settled: bool,
    /// So far.
    usage: Usage,
}

impl ChoiceMeter {
    /// Takes note of an event; the last one settles the account, whoever still listens then.
    pub(in crate::http) fn hear(&mut self, event: &Event, now: Instant) {
        let record = &self.meter.record;
        match event {
            Event::Started { cached_tokens } => {
                self.started = true;
                self.usage.cached_tokens = *cached_tokens;
                if self.first {
                    record.add_prompt(self.usage.prompt_tokens, *cached_tokens);
                }
            }
            Event::Step(step) if step.token.is_some() => {
                if self.usage.completion_tokens == 0 {
                    record.note_first_token(now);
                }
                self.usage.completion_tokens += 1;
                record.add_token();
            }
            Event::Step(_) | Event::Prompt(_) => {}
            Event::Finished { reason, .. } => {
                record.said(|said| said.finish_reason = Some(name(reason)));
                self.settle();
            }
            Event::Failed(_) => self.settle(),
        }
    }

    /// Once.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let Self { meter, first, started, usage, .. } = self;
        // What was given up in the queue has cost nothing.
        let prompt = match *first && *started {
            true => (usage.prompt_tokens, usage.cached_tokens),
            false => (0, 0),
        };
        let (prompt, cached) = (prompt.0 as u64, prompt.1 as u64);
        let completion = usage.completion_tokens as u64;
        meter.counters.add(prompt, cached, completion);
        if let Some(holder) = &meter.holder {
            holder.account.take(&holder.tenant, prompt + completion, unix_time());
        }
    }
}

impl Drop for ChoiceMeter {
    /// An engine that lost a request, or whose client did not hear the end, made what it made.
    fn drop(&mut self) {
        self.settle();
    }
}

fn name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Repetition => "repetition",
        FinishReason::Cancelled => "cancelled",
        _ => "stop",
    }
}
