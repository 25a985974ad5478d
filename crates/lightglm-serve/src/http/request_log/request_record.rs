//! `RequestRecord`: what the log says of a request at its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of a request so far; clones are the same. Its handler and its choices fill it in.
#[derive(Clone)]
pub(in crate::http) struct RequestRecord(Arc<Shared>);

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
pub(in crate::http) struct Said {
    /// The key's name.
    pub(in crate::http) key: Option<String>,
    pub(in crate::http) model: Option<String>,
    /// Why it has no reply, or not all of one.
    pub(in crate::http) refusal: Option<Refusal>,
    pub(in crate::http) finish_reason: Option<&'static str>,
    /// The prompts' texts, where they are asked for.
    pub(in crate::http) prompt: Option<String>,
}

/// An error, as the log has it; a response that is one has it among its extensions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::http) struct Refusal {
    pub(in crate::http) code: Option<&'static str>,
    pub(in crate::http) param: Option<String>,
    /// In words, without what stood in the request.
    pub(in crate::http) reason: String,
}

/// The tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Tokens {
    pub(in crate::http) prompt: u64,
    pub(in crate::http) cached: u64,
    pub(in crate::http) completion: u64,
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
    pub(in crate::http) fn said<T>(&self, say: impl FnOnce(&mut Said) -> T) -> T {
        say(&mut self.0.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A prompt of so many tokens left the queue, so many of them in the cache already.
    pub(in crate::http) fn add_prompt(&self, tokens: usize, cached: usize) {
        self.0.prompt.fetch_add(tokens as u64, Ordering::Relaxed);
        self.0.cached.fetch_add(cached as u64, Ordering::Relaxed);
    }

    /// A choice's first token, beside [`add_token`](Self::add_token).
    pub(in crate::http) fn note_first_token(&self, now: Instant) {
        let after = now.saturating_duration_since(self.0.started).as_nanos().max(1);
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        // Of several choices the earliest.
        let _ = self.0.first_token.compare_exchange(0, after, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A token of a reply.
    pub(in crate::http) fn add_token(&self) {
        self.0.completion.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::http) fn tokens(&self) -> Tokens {
        Tokens {
            prompt: self.0.prompt.load(Ordering::Relaxed),
            cached: self.0.cached.load(Ordering::Relaxed),
            completion: self.0.completion.load(Ordering::Relaxed),
        }
    }

    pub(in crate::http) fn first_token(&self) -> Option<Duration> {
        let after = self.0.first_token.load(Ordering::Relaxed);
        (after > 0).then(|| Duration::from_nanos(after))
    }

    pub(in crate::http) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }
}

/// `reason` without what may have come out of a request: serde repeats strings and names that it did not expect.
pub(in crate::http) fn without_values(reason: &str) -> String {
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
