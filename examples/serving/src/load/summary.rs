//! What many replies come to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::client::{Outcome, Reply};

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// 90 % are below.
    pub p90: f64,
    /// 95 % are below.
    pub p95: f64,
    /// 99 % are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Percentiles {
    /// Of `times`, by nearest rank; zeros where there are none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut ms: Vec<f64> = times.into_iter().map(|time| 1e3 * time.as_secs_f64()).collect();
        if ms.is_empty() {
            return Self::default();
        }
        ms.sort_by(f64::total_cmp);
        let at =
            |share: f64| ms[((share * ms.len() as f64).ceil() as usize).clamp(1, ms.len()) - 1];
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        Self { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max: at(1.0), mean }
    }
}

/// A run in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Requests that were answered.
    pub answered: usize,
    /// Clients that hung up.
    pub hung_up: usize,
    /// Requests that were refused, by HTTP status (0: no response).
    pub refused: BTreeMap<u16, usize>,
    /// One of the server's reasons for each status.
    pub reasons: BTreeMap<u16, String>,
    /// From the first request to the last reply.
    pub seconds: f64,
    /// Replies a second.
    pub requests_per_second: f64,
    /// Tokens of replies a second.
    pub tokens_per_second: f64,
    /// Tokens of prompts a second.
    pub prompt_tokens_per_second: f64,
    /// Tokens of a prompt, on average.
    pub prompt_tokens: f64,
    /// Tokens of a reply, on average.
    pub completion_tokens: f64,
    /// Time to the first token, in milliseconds.
    pub time_to_first_token: Percentiles,
    /// Between tokens of one reply, in milliseconds.
    pub inter_token_latency: Percentiles,
    /// Of a whole reply, in milliseconds.
    pub latency: Percentiles,
}

impl Summary {
    /// Of `outcomes`, which took `took` together.
    pub fn of(outcomes: &[Outcome], took: Duration) -> Self {
        let replies: Vec<&Reply> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Answered(reply) => Some(reply),
                _ => None,
            })
            .collect();
        let (mut refused, mut reasons) = (BTreeMap::new(), BTreeMap::new());
        for outcome in outcomes {
            if let Outcome::Refused { status, reason } = outcome {
                *refused.entry(*status).or_insert(0) += 1;
                reasons.entry(*status).or_insert_with(|| reason.clone());
            }
        }
        let seconds = took.as_secs_f64();
        let sum = |of: fn(&Reply) -> u64| replies.iter().map(|reply| of(reply)).sum::<u64>() as f64;
        let (completion, prompt) = (sum(|r| r.completion_tokens), sum(|r| r.prompt_tokens));
        let each = |sum: f64| sum / replies.len().max(1) as f64;
        Self {
            answered: replies.len(),
            hung_up: outcomes.iter().filter(|o| matches!(o, Outcome::HungUp)).count(),
            refused,
            reasons,
            seconds,
            requests_per_second: replies.len() as f64 / seconds,
            tokens_per_second: completion / seconds,
            prompt_tokens_per_second: prompt / seconds,
            prompt_tokens: each(prompt),
            completion_tokens: each(completion),
            time_to_first_token: Percentiles::of(replies.iter().map(|reply| reply.first)),
            inter_token_latency: Percentiles::of(
                replies.iter().flat_map(|reply| reply.gaps.iter().copied()),
            ),
            latency: Percentiles::of(replies.iter().map(|reply| reply.total)),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} answered in {:.1} s: {:.1} requests/s, {:.1} tokens/s ({:.0} tokens in, {:.0} out)",
            self.answered,
            self.seconds,
            self.requests_per_second,
            self.tokens_per_second,
            self.prompt_tokens,
            self.completion_tokens
        )?;
        if self.hung_up > 0 {
            writeln!(f, "{} hung up", self.hung_up)?;
        }
        for (status, count) in &self.refused {
            let reason = self.reasons.get(status).map_or("", String::as_str);
            writeln!(f, "{count} refused with {status}: {}", reason.trim())?;
        }
        writeln!(
            f,
            "{:22} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "ms", "p50", "p90", "p95", "p99", "max"
        )?;
        let rows = [
            ("first token", self.time_to_first_token),
            ("from token to token", self.inter_token_latency),
            ("whole reply", self.latency),
        ];
        for (name, p) in rows {
            let [p50, p90, p95, p99, max] = [p.p50, p.p90, p.p95, p.p99, p.max];
            writeln!(f, "{name:22} {p50:8.1} {p90:8.1} {p95:8.1} {p99:8.1} {max:8.1}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let p = Percentiles::of((1..=100).map(Duration::from_millis));
        assert_eq!((p.p50, p.p90, p.p95, p.p99, p.max), (50.0, 90.0, 95.0, 99.0, 100.0));
        assert_eq!(Percentiles::of([]), Percentiles::default());
        assert_eq!(Percentiles::of([Duration::from_millis(7)]).p50, 7.0);
    }
}
