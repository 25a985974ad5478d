//! `RequestRecord`: what the log says of a request at its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of a request so far; clones are the same. Its handler and its choices fill it in.
#[derive(Clone)]
pub(super) struct RequestRecord(Arc<Shared>);

struct Shared {
    started: Instant,
    said: Mutex<Said>,
    /// Tokens.
    prompt: AtomicU64,
    cached: AtomicU64,
    completion: AtomicU64,
    /// Nanoseconds from the start to the first token; 0 before that.
    first_token: AtomicU64,
}

/// What is said once, or seldom.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The key's name.
    pub(super) key: Option<String>,
    pub(super) model: Option<String>,
    /// Why it has no reply, or not all of one.
    pub(super) refusal: Option<Refusal>,
    pub(super) finish_reason: Option<&'static str>,
    /// The prompts' texts, where they are asked for.
    pub(super) prompt: Option<String>,
}

/// An error, as the log has it; a response that is one has it among its extensions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: Option<&'static str>,
    pub(super) param: Option<String>,
    /// In words, without what stood in the request.
    pub(super) reason: String,
}

/// The tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) prompt: u64,
    pub(super) cached: u64,
    pub(super) completion: u64,
}

impl Default for RequestRecord {
    fn default() -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            said: Mutex::default(),
            prompt: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            completion: AtomicU64::new(0),
            first_token: AtomicU64::new(0),
        }))
    }
}

impl RequestRecord {
    pub(super) fn said<T>(&self, say: impl FnOnce(&mut Said) -> T) -> T {
        say(&mut self.0.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A prompt of so many tokens left the queue, so many of them in the cache already.
    pub(super) fn add_prompt(&self, tokens: usize, cached: usize) {
        self.0.prompt.fetch_add(tokens as u64, Ordering::Relaxed);
        self.0.cached.fetch_add(cached as u64, Ordering::Relaxed);
    }

    /// A choice's first token, beside [`add_token`](Self::add_token).
    pub(super) fn note_first_token(&self, now: Instant) {
        let after = now.saturating_duration_since(self.0.started).as_nanos().max(1);
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        // Of several choices the earliest.
        let _ = self.0.first_token.compare_exchange(0, after, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A token of a reply.
    pub(super) fn add_token(&self) {
        self.0.completion.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn tokens(&self) -> Tokens {
        Tokens {
            prompt: self.0.prompt.load(Ordering::Relaxed),
            cached: self.0.cached.load(Ordering::Relaxed),
            completion: self.0.completion.load(Ordering::Relaxed),
        }
    }

    pub(super) fn first_token(&self) -> Option<Duration> {
        let after = self.0.first_token.load(Ordering::Relaxed);
        (after > 0).then(|| Duration::from_nanos(after))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }
}

/// `reason` without what may have come out of a request: serde repeats strings and names that it did not expect.
pub(super) fn without_values(reason: &str) -> String {
    let mut shown = reason.to_owned();
    if let (Some(first), Some(last)) = (shown.find('"'), shown.rfind('"')) {
        // All between the outermost quotes, whatever is quoted in there.
        let end = if first == last { shown.len() } else { last + 1 };
        shown.replace_range(first..end, "\"...\"");
    }
    let name = "unknown variant `";
    if let Some(at) = shown.find(name).map(|at| at + name.len()) {
        let end = shown.rfind("`, expected").filter(|end| *end >= at).unwrap_or(shown.len());
        shown.replace_range(at..end, "...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_in_a_request_is_not_in_its_reason() {
        let string = "invalid type: string \"...\", expected u64";
        let cases = [
            ("invalid type: string \"my \\\"secret\\\" x\", expected u64", string),
            ("invalid type: string \"cut \\ … \" in two\", expected u64", string),
            ("invalid type: string \"cut off", "invalid type: string \"...\""),
            ("unknown variant `secret`, expected `a`", "unknown variant `...`, expected `a`"),
            ("unknown variant `cut o", "unknown variant `..."),
            ("it must be 0 to 2", "it must be 0 to 2"),
        ];
        for (reason, shown) in cases {
            assert_eq!(without_values(reason), shown);
        }
    }
}
