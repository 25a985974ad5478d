//! `Inbox`: where the threads of callers and the engine's thread meet.
//!
//! The same source is compiled against shuttle's primitives in `tests/inbox_model.rs`.

use std::collections::HashMap;

use super::sync::{Condvar, Mutex, MutexGuard};

/// A bounded queue's doorstep: it counts who waits and who is inside, and refuses the rest.
pub(crate) struct Inbox<T> {
    limits: InboxLimits,
    state: Mutex<State<T>>,
    wake: Condvar,
}

/// What an [`Inbox`] holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    /// Items that have not started.
    pub(crate) max_waiting: usize,
    /// Items of one key that have not ended.
    pub(crate) max_open_per_key: Option<usize>,
}

struct State<T> {
    arrived: Vec<T>,
    /// Offered and not started: here, or in the engine's queue.
    waiting: usize,
    /// Offered and not ended, by key.
    open: HashMap<String, usize>,
    draining: bool,
    stopped: bool,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full { waiting: usize },
    KeyLimit { open: usize },
    Draining,
}

/// What a waiting engine woke up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Something arrived.
    Work,
    /// Nothing will arrive any more.
    Drained,
}

impl<T> Inbox<T> {
    pub(crate) fn new(limits: InboxLimits) -> Self {
        let state = State {
            arrived: Vec::new(),
            waiting: 0,
            open: HashMap::new(),
            draining: false,
            stopped: false,
        };
        Self { limits, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// Takes `item` of `key`, or says why not; the item is lost then.
    pub(crate) fn offer(&self, key: &str, item: T) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.draining || state.stopped {
            return Err(Refusal::Draining);
        }
        let waiting = state.waiting;
        if waiting >= self.limits.max_waiting {
            return Err(Refusal::Full { waiting });
        }
        let open = state.open.get(key).copied().unwrap_or(0);
        if self.limits.max_open_per_key.is_some_and(|limit| open >= limit) {
            return Err(Refusal::KeyLimit { open });
        }
        state.open.insert(key.to_owned(), open + 1);
        state.waiting += 1;
        state.arrived.push(item);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// What has arrived since the last call.
    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.lock().arrived)
    }

    /// One item has left the queue and runs.
    pub(crate) fn started(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }

    /// One item that ran goes back into the queue. It is never refused.
    pub(crate) fn requeued(&self) {
        self.lock().waiting += 1;
    }

    /// One item of `key` has ended, out of the queue (`waiting`) or out of its run.
    pub(crate) fn ended(&self, key: &str, waiting: bool) {
        let mut state = self.lock();
        if waiting {
            state.waiting = state.waiting.saturating_sub(1);
        }
        match state.open.get_mut(key) {
            Some(open) if *open > 1 => *open -= 1,
            _ => {
                state.open.remove(key);
            }
        }
    }

    /// Sleeps until there is something to do.
    pub(crate) fn wait(&self) -> Wake {
        let mut state = self.lock();
        loop {
            if !state.arrived.is_empty() {
                return Wake::Work;
            }
            if state.draining || state.stopped {
                return Wake::Drained;
            }
            state = self.wake.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Refuses what comes from now on.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.wake.notify_one();
    }

    /// As [`Self::drain`], by the engine when it ends; what has arrived is handed back.
    pub(crate) fn stop(&self) -> Vec<T> {
        let mut state = self.lock();
        state.stopped = true;
        std::mem::take(&mut state.arrived)
    }

    pub(crate) fn is_draining(&self) -> bool {
        let state = self.lock();
        state.draining || state.stopped
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Items that wait, and items that have not ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting, state.open.values().sum())
    }

    /// A panic elsewhere leaves counters at most, never half an item.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
