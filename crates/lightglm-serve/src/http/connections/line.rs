//! `Line`: what a connection is doing, and since when.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing: it has sent no byte yet, or none since its last answer.
    Idle,
    /// A head arrives, or a TLS handshake.
    Head,
    /// A request is answered whose body has not arrived.
    Body,
    /// A request is answered that has arrived.
    Answer,
    /// It was closed for another; it never leaves this.
    Closed,
}

impl Phase {
    fn of(number: u8) -> Self {
        [Self::Idle, Self::Head, Self::Body, Self::Answer]
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Closed)
    }
}

/// Bytes per second that a body has to come with to be no slow one.
const SLOW_BODY: u64 = 4096;

/// A body is not slow before this.
const BODY_BEGINS: Duration = Duration::from_millis(500);

/// A client that takes nothing for so long does not read.
const NOT_READING: Duration = Duration::from_secs(2);

/// How little a connection is missed: the kind of waiting, and a measure of it; the lowest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missed {
    pub(super) kind: u8,
    pub(super) measure: u64,
}

/// What a connection is doing, for itself and for whoever looks for one to close.
///
/// The connection's own task writes, but for [`Line::close`]; others may read a moment that is half over, which
/// costs them their choice and nothing else.
pub(super) struct Line {
    began: Instant,
    phase: AtomicU8,
    /// When the phase began: milliseconds after `began`, as all times here.
    since: AtomicU64,
    /// Bytes from the client, and how many of them came before the body.
    read: AtomicU64,
    before_body: AtomicU64,
    /// When a write began to wait, plus one; 0 where none does.
    blocked: AtomicU64,
    /// The answer has been handed over, but perhaps not been sent.
    answered: AtomicBool,
}

impl Line {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(phase as u8),
            since: AtomicU64::new(0),
            read: AtomicU64::new(0),
            before_body: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            answered: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(SeqCst))
    }

    /// Since when it does what it does.
    pub(super) fn since(&self) -> Instant {
        self.began + Duration::from_millis(self.since.load(SeqCst))
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    fn enter(&self, phase: Phase) {
        self.since.store(self.now(), SeqCst);
        let _ = self.phase.fetch_update(SeqCst, SeqCst, |before| {
            (Phase::of(before) != Phase::Closed).then_some(phase as u8)
        });
    }

    /// Nothing has been asked yet.
    pub(super) fn wait(&self) {
        self.enter(Phase::Idle);
    }

    /// Bytes came.
    pub(super) fn read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, SeqCst);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete; its body, if there is one, is not.
    pub(super) fn begin(&self, has_body: bool) {
        self.answered.store(false, SeqCst);
        self.before_body.store(self.read.load(SeqCst), SeqCst);
        self.enter(if has_body { Phase::Body } else { Phase::Answer });
    }

    /// The body has arrived.
    pub(super) fn arrived(&self) {
        if self.phase() == Phase::Body {
            self.enter(Phase::Answer);
        }
    }

    /// The answer's last byte was handed over.
    pub(super) fn answered(&self) {
        self.answered.store(true, SeqCst);
    }

    /// Everything that was handed over has been sent.
    pub(super) fn sent(&self) {
        if self.answered.swap(false, SeqCst) {
            self.enter(Phase::Idle);
        }
    }

    /// A write waits for the client, or does not any more.
    pub(super) fn block(&self, blocked: bool) {
        self.blocked.store(if blocked { self.now().saturating_add(1) } else { 0 }, SeqCst);
    }

    /// How little it is missed; `None` where it is not to be closed.
    pub(super) fn missed(&self) -> Option<(Phase, Missed)> {
        let phase = self.phase();
        let since = self.since.load(SeqCst);
        let elapsed = self.now().saturating_sub(since);
        let blocked = self.blocked.load(SeqCst);
        let for_long = |limit: Duration, elapsed: u64| u128::from(elapsed) >= limit.as_millis();
        let (kind, measure) = match phase {
            Phase::Idle => (0, since),
            Phase::Head => (1, since),
            Phase::Body if for_long(BODY_BEGINS, elapsed) => {
                let bytes = self.read.load(SeqCst).saturating_sub(self.before_body.load(SeqCst));
                let rate = bytes.saturating_mul(1000) / elapsed.max(1);
                (rate < SLOW_BODY).then_some((2, rate))?
            }
            Phase::Answer if blocked > 0 && for_long(NOT_READING, self.now() + 1 - blocked) => {
                (3, blocked)
            }
            _ => return None,
        };
        Some((phase, Missed { kind, measure }))
    }

    /// Closes it, if it still does what it did.
    pub(super) fn close(&self, phase: Phase) -> bool {
        self.phase.compare_exchange(phase as u8, Phase::Closed as u8, SeqCst, SeqCst).is_ok()
    }

    /// Closes it, whatever it does.
    pub(super) fn close_anyway(&self) -> bool {
        self.phase.swap(Phase::Closed as u8, SeqCst) != Phase::Closed as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_the_next() {
        let line = Line::new(Phase::Idle);
        assert_eq!(line.missed().map(|(_, missed)| missed.kind), Some(0));
        line.read(3);
        assert_eq!(line.phase(), Phase::Head);
        line.begin(true);
        line.read(3);
        assert_eq!((line.phase(), line.missed()), (Phase::Body, None));
        line.arrived();
        assert_eq!((line.phase(), line.missed()), (Phase::Answer, None));
        // Something was sent of an answer that goes on.
        line.sent();
        assert_eq!(line.phase(), Phase::Answer);
        line.answered();
        assert_eq!(line.phase(), Phase::Answer, "it has not been sent");
        line.sent();
        assert_eq!(line.phase(), Phase::Idle);
        assert!(!line.close(Phase::Head) && line.close(Phase::Idle));
        line.read(1);
        line.begin(false);
        assert_eq!((line.phase(), line.missed()), (Phase::Closed, None));
        assert!(!line.close_anyway());
    }
}
