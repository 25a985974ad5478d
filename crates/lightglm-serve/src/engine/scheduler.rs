//! `Engine`: who runs, who waits, and what a step does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::KV_BLOCK;
use lightglm_generation::FinishReason;

use super::active::Active;
use super::config::{EngineConfig, EngineLimits};
use super::event::{EngineError, Event, Usage};
use super::fairness::VirtualTokens;
use super::handle::{Arrival, EngineHandle, Shared};
use super::inbox::{Inbox, InboxLimits, Wake};
use super::lookup::Lookup;
use super::models::{AdapterLoader, Adapters, ModelSlot, SharedModel};
use super::pace::Pace;
use super::plan::plan;
use super::queue::Queue;
use super::stats::EngineStats;
use super::thread::EngineThread;
use crate::kv::ServingCache;

/// Puts an [`Engine`] together.
pub struct EngineBuilder<B: Backend, C> {
    model: SharedModel<B>,
    cache: C,
    config: EngineConfig,
    loader: Option<AdapterLoader<B>>,
}

impl<B: Backend, C: ServingCache<B>> EngineBuilder<B, C> {
    /// An engine for `model`, whose requests live in `cache`.
    pub fn new(model: SharedModel<B>, cache: C, config: EngineConfig) -> Self {
        Self { model, cache, config, loader: None }
    }

    /// Lets callers load adapters by name.
    pub fn with_adapters(mut self, loader: AdapterLoader<B>) -> Self {
        self.loader = Some(loader);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine<B, C> {
        let Self { model, cache, mut config, loader } = self;
        let vocab_size = model.vocab_size();
        config.max_running = config.max_running.max(1);
        config.max_positions = config.max_positions.min(cache.usage().blocks * KV_BLOCK);
        let limits = EngineLimits {
            max_positions: config.max_positions,
            vocab_size,
            max_waiting: config.max_waiting,
            max_running: config.max_running,
            max_open_per_key: config.max_open_per_key,
        };
        let inbox = Inbox::new(InboxLimits {
            max_waiting: config.max_waiting,
            max_open_per_key: config.max_open_per_key,
        });
        let adapters = Adapters::new(loader, vocab_size);
        let mut engine = Engine {
            shared: Arc::new(Shared::new(limits, inbox, adapters)),
            base: ModelSlot { salt: 0, model },
            cache,
            queue: Queue::new(),
            running: Vec::new(),
            tokens: VirtualTokens::new(config.fairness),
            pace: Pace::new(config.pace),
            config,
            stats: EngineStats::default(),
            arrivals: 0,
            last_end: None,
            ends_per_second: None,
        };
        engine.publish_stats();
        engine
    }
}

/// Runs requests, a step at a time. [`Engine::spawn`] gives it a thread of its own.
pub struct Engine<B: Backend, C: ServingCache<B>> {
    pub(super) shared: Arc<Shared>,
    base: ModelSlot<B>,
    pub(super) cache: C,
    queue: Queue<B>,
    pub(super) running: Vec<Active<B>>,
    pub(super) tokens: VirtualTokens,
    pub(super) pace: Pace,
    pub(super) config: EngineConfig,
    pub(super) stats: EngineStats,
    arrivals: u64,
    last_end: Option<Instant>,
    ends_per_second: Option<f64>,
}

impl<B: Backend, C: ServingCache<B>> Engine<B, C> {
    /// Submits requests to this engine.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle { shared: Arc::clone(&self.shared) }
    }

    /// Runs the engine on a thread of its own, until it is drained or dropped.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn spawn(self) -> std::io::Result<EngineThread>
    where
        C: Send + 'static,
    {
        EngineThread::spawn(self)
    }

    /// Takes in what has arrived and runs one forward pass; false where there was nothing to run.
    pub fn step(&mut self) -> bool {
        self.absorb();
        self.sweep();
        self.admit();
        let shares = plan(&self.running, &self.config, &self.pace);
        let ran = !shares.is_empty();
        if ran {
            let result = catch_unwind(AssertUnwindSafe(|| self.run(shares)));
            if result.is_err() {
                // Nobody knows what the pass left of the pools.
                self.fail_all(&EngineError::Panicked);
                self.cache.reset();
            }
        }
        self.publish_stats();
        ran
    }

    /// Sleeps until something arrives; false where nothing will any more.
    pub(super) fn wait(&self) -> bool {
        self.shared.inbox.wait() == Wake::Work
    }

    fn absorb(&mut self) {
        for arrival in self.shared.inbox.take() {
            let active = self.active(arrival);
            self.tokens.enter(&active.key);
            self.queue.push(active);
        }
    }

    fn active(&mut self, arrival: Arrival) -> Active<B> {
        let Arrival { key, priority, deadline, cancel, sink, model, reply } = arrival;
        // The handle took the slot from this engine's own adapters, which are of this backend.
        let adapter = model.and_then(|slot| slot.downcast::<ModelSlot<B>>().ok());
        let model = adapter.map_or_else(|| self.base.clone(), |slot| ModelSlot::clone(&slot));
        self.arrivals += 1;
        let tokens = reply.prompt().to_vec();
        let usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
        Active {
            arrival: self.arrivals,
            key,
            priority,
            deadline,
            cancel,
            sink,
            model,
            reply,
            tokens,
            sequence: None,
            held: 0,
            published: 0,
            usage,
            started: false,
            over: false,
            lookup: self.config.speculation.map(Lookup::new),
        }
    }

    /// Ends what was cancelled and what took too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        let is_late = |active: &Active<B>| active.deadline.is_some_and(|deadline| deadline <= now);
        for active in self.queue.drain_if(|active| active.cancel.is_cancelled() || is_late(active))
        {
            self.end_early(active, true);
        }
        let mut index = 0;
        while index < self.running.len() {
            let active = &self.running[index];
            if active.cancel.is_cancelled() || is_late(active) {
                let active = self.running.remove(index);
                self.end_early(active, false);
            } else {
                index += 1;
            }
        }
    }

    fn end_early(&mut self, mut active: Active<B>, waiting: bool) {
        self.release(&mut active);
        if active.cancel.is_cancelled() {
            self.stats.cancelled += 1;
            active.finish(FinishReason::Cancelled);
        } else {
            self.stats.failed += 1;
            let generated = active.usage.completion_tokens;
            active.tell(Event::Failed(EngineError::DeadlinePassed { generated }));
        }
        self.leave(&active, waiting);
    }

    /// Starts waiting requests while there are room and blocks.
    fn admit(&mut self) {
        while self.running.len() < self.config.max_running && !self.queue.is_empty() {
            let running = &self.running;
            let may = |active: &Active<B>| !runs_the_same_prompt(running, active);
            let Some(mut active) = self.queue.pop(&self.tokens, may) else { break };
            let (sequence, cached) = self.cache.open(&active.tokens, active.model.salt);
            active.sequence = Some(sequence);
            let usage = self.cache.usage();
            let needed = (active.tokens.len() + 1).div_ceil(KV_BLOCK) - cached / KV_BLOCK;
            // What the others still have to run of their prompts is spoken for.
            let spoken = self.running.iter().map(|other| blocks_to_come(other)).sum::<usize>();
            if needed + spoken > usage.blocks - usage.used && !self.running.is_empty() {
                self.release(&mut active);
                self.queue.push(active);
                break;
            }
            active.held = cached;
            active.published = cached;
            self.stats.cached_tokens += cached as u64;
            if !active.started {
                active.started = true;
                active.usage.cached_tokens = cached;
                active.tell(Event::Started { cached_tokens: cached });
            }
            self.shared.inbox.started();
            self.running.push(active);
        }
    }

    /// Gives the blocks of the running request `index` up; it will be computed again.
    pub(super) fn preempt(&mut self, index: usize) {
        let mut active = self.running.remove(index);
        self.release(&mut active);
        self.stats.preemptions += 1;
        self.shared.inbox.requeued();
        self.queue.push(active);
    }

    /// Who gives way where blocks run out: the lowest priority, and of these who came last.
    pub(super) fn victim(&self) -> Option<usize> {
        let order = |&i: &usize| {
            let active = &self.running[i];
            (active.priority, std::cmp::Reverse(active.arrival))
        };
        (0..self.running.len()).min_by_key(order)
    }

    /// Takes the running request `index` out, at its end.
    pub(super) fn retire(&mut self, index: usize) -> Active<B> {
        let mut active = self.running.remove(index);
        self.release(&mut active);
        self.leave(&active, false);
        active
    }

    /// Makes what the cache holds of a request findable.
    pub(super) fn publish(&mut self, index: usize) {
        let active = &mut self.running[index];
        let full = active.held / KV_BLOCK * KV_BLOCK;
        if let (true, Some(sequence)) = (full > active.published, active.sequence) {
            // A cache that does not know its own sequence has nothing to publish.
            let _ = self.cache.publish(sequence, &active.tokens[..active.held]);
            active.published = full;
        }
    }

    fn release(&mut self, active: &mut Active<B>) {
        if let Some(sequence) = active.sequence.take() {
            let _ = self.cache.close(sequence);
        }
        active.held = 0;
        active.published = 0;
    }

    fn leave(&mut self, active: &Active<B>, waiting: bool) {
        self.tokens.leave(&active.key);
        self.shared.inbox.ended(&active.key, waiting);
        let now = Instant::now();
        if let Some(last) = self.last_end.replace(now) {
            // Many ends share one step: the mean gap is what counts.
            let gap = now.duration_since(last).as_secs_f64();
            let old = self.ends_per_second.map_or(gap, |rate| 1.0 / rate);
            self.ends_per_second = Some(1.0 / (old + 0.05 * (gap - old)).max(1e-6));
        }
    }

    fn fail_all(&mut self, error: &EngineError) {
        while !self.running.is_empty() {
            let mut active = self.retire(0);
            // In a step that panicked some had their end before.
            self.stats.failed += u64::from(!active.over);
            active.tell(Event::Failed(error.clone()));
        }
    }

    /// Fails everything that is left.
    fn stop(&mut self) {
        self.fail_all(&EngineError::Stopped);
        for mut active in self.queue.drain_if(|_| true) {
            self.leave(&active, true);
            active.tell(Event::Failed(EngineError::Stopped));
        }
        for arrival in self.shared.inbox.stop() {
            let key = arrival.key.clone();
            arrival.refuse(EngineError::Stopped);
            self.shared.inbox.ended(&key, true);
        }
        self.publish_stats();
    }

    fn publish_stats(&mut self) {
        let usage = self.cache.usage();
        self.stats.running = self.running.len();
        self.stats.kv_blocks = usage.blocks;
        self.stats.kv_blocks_used = usage.used;
        self.stats.kv_blocks_cached = usage.cached;
        let mut board = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.stats = self.stats;
        board.ends_per_second = self.ends_per_second;
    }
}

/// Everybody who was accepted hears the end of it.
impl<B: Backend, C: ServingCache<B>> Drop for Engine<B, C> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether somebody is computing a prefix of this prompt that it could take over in a moment.
fn runs_the_same_prompt<B: Backend>(running: &[Active<B>], active: &Active<B>) -> bool {
    let of_prompt = |other: &&Active<B>| other.rest() > 1 && other.model.salt == active.model.salt;
    running.iter().filter(of_prompt).any(|other| {
        let shared = other.tokens.iter().zip(&active.tokens).take_while(|(a, b)| a == b).count();
        // At least one token is run for its logits.
        let useful = shared.min(active.tokens.len() - 1) / KV_BLOCK * KV_BLOCK;
        useful > other.published
    })
}

/// Blocks that a running request will ask for until its prompt has been run.
fn blocks_to_come<B: Backend>(active: &Active<B>) -> usize {
    active.tokens.len().div_ceil(KV_BLOCK) - active.held.div_ceil(KV_BLOCK)
}
