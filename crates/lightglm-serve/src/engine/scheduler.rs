//! `Engine`: who runs, who waits, and what a step does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::tensor::backend::Backend;
use lightglm_core::KV_BLOCK;
use lightglm_generation::FinishReason;

use super::cache_salt::CacheSalts;
use super::config::{EngineConfig, EngineLimits};
use super::event::{EngineError, Event, Usage};
use super::fairness::VirtualTokens;
use super::handle::{EngineHandle, Shared};
use super::inbox::{Inbox, InboxLimits, Wake};
use super::lookup::Lookup;
use super::models::{AdapterLoader, Adapters, ModelSlot, SharedModel};
use super::pace::Pace;
use super::plan::plan;
use super::queue::Queue;
use super::running_sequence::{PromptScores, RunningSequence};
use super::stats::EngineStats;
use super::thread::EngineThread;
use super::waiting_request::WaitingRequest;
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
            salts: CacheSalts::default(),
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
    salts: CacheSalts,
    pub(super) cache: C,
    queue: Queue<B>,
    pub(super) running: Vec<RunningSequence<B>>,
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
        let scheduled = plan(&self.running, &self.config, &self.pace);
        let ran = !scheduled.is_empty();
        if ran {
            let result = catch_unwind(AssertUnwindSafe(|| self.run(scheduled)));
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
        for request in self.shared.inbox.take() {
            let sequence = self.sequence(request);
            self.tokens.enter(&sequence.key);
            self.queue.push(sequence);
        }
    }

    fn sequence(&mut self, request: WaitingRequest) -> RunningSequence<B> {
        let WaitingRequest {
            key,
            cache_salt,
            priority,
            deadline,
            cancel,
            sink,
            model,
            prompt_logprobs,
            media,
            reply,
        } = request;
        // The handle took the slot from this engine's own adapters, which are of this backend.
        let adapter = model.and_then(|slot| slot.downcast::<ModelSlot<B>>().ok());
        let model = adapter.map_or_else(|| self.base.clone(), |slot| ModelSlot::clone(&slot));
        let cache_salt = self.salts.of(model.salt, &cache_salt);
        self.arrivals += 1;
        let tokens = reply.prompt().to_vec();
        let usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
        RunningSequence {
            arrival: self.arrivals,
            key,
            priority,
            deadline,
            cancel,
            sink,
            model,
            scores: prompt_logprobs.map(|top| PromptScores { top, told: 1 }),
            cache_salt,
            reply,
            media,
            tokens,
            id: None,
            held: 0,
            published: 0,
            usage,
            started: false,
            over: false,
            lookup: self
                .config
                .speculation
                .map(|config| Lookup::new(config, self.shared.limits.vocab_size)),
        }
    }

    /// Ends what was cancelled and what took too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        let is_late = |sequence: &RunningSequence<B>| {
            sequence.deadline.is_some_and(|deadline| deadline <= now)
        };
        for sequence in
            self.queue.drain_if(|sequence| sequence.cancel.is_cancelled() || is_late(sequence))
        {
            self.end_early(sequence, true);
        }
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &self.running[index];
            if sequence.cancel.is_cancelled() || is_late(sequence) {
                let sequence = self.running.remove(index);
                self.end_early(sequence, false);
            } else {
                index += 1;
            }
        }
    }

    fn end_early(&mut self, mut sequence: RunningSequence<B>, waiting: bool) {
        self.release(&mut sequence);
        if sequence.cancel.is_cancelled() {
            self.stats.cancelled += 1;
            sequence.end(FinishReason::Cancelled);
        } else {
            self.stats.failed += 1;
            let generated = sequence.usage.completion_tokens;
            sequence.tell(Event::Failed(EngineError::DeadlinePassed { generated }));
        }
        self.leave(&sequence, waiting);
    }

    /// Starts waiting requests while there are room and blocks.
    fn admit(&mut self) {
        while self.running.len() < self.config.max_running && !self.queue.is_empty() {
            let running = &self.running;
            let may = |sequence: &RunningSequence<B>| {
                sequence.is_scoring() || !runs_the_same_prompt(running, sequence)
            };
            let Some(mut sequence) = self.queue.pop(&self.tokens, may) else { break };
            let (id, cached) = self.cache.open(sequence.cacheable(), sequence.cache_salt);
            sequence.id = Some(id);
            let usage = self.cache.usage();
            let needed = (sequence.tokens.len() + 1).div_ceil(KV_BLOCK) - cached / KV_BLOCK;
            // What the others still have to run of their prompts is spoken for.
            let spoken = self.running.iter().map(|other| blocks_to_come(other)).sum::<usize>();
            if needed + spoken > usage.blocks - usage.used && !self.running.is_empty() {
                self.release(&mut sequence);
                self.queue.push(sequence);
                break;
            }
            sequence.held = cached;
            sequence.published = cached;
            self.stats.cached_tokens += cached as u64;
            if !sequence.started {
                sequence.started = true;
                sequence.usage.cached_tokens = cached;
                sequence.tell(Event::Started { cached_tokens: cached });
            }
            self.shared.inbox.started();
            self.running.push(sequence);
        }
    }

    /// Takes the blocks of the sequence with the lowest priority, and of these of the one that came
    /// last; it goes back into the queue and will be computed again. Its index among the running;
    /// `None` where nothing runs.
    pub(super) fn preempt(&mut self) -> Option<usize> {
        let order = |&i: &usize| {
            let sequence = &self.running[i];
            (sequence.priority, std::cmp::Reverse(sequence.arrival))
        };
        let index = (0..self.running.len()).min_by_key(order)?;
        let mut sequence = self.running.remove(index);
        self.release(&mut sequence);
        self.stats.preemptions += 1;
        self.shared.inbox.requeued();
        self.queue.push(sequence);
        Some(index)
    }

    /// Takes the running sequence `index` out, at its end.
    pub(super) fn finish(&mut self, index: usize) -> RunningSequence<B> {
        let mut sequence = self.running.remove(index);
        self.release(&mut sequence);
        self.leave(&sequence, false);
        sequence
    }

    /// Makes what the cache holds of a request findable.
    pub(super) fn publish(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        let full = sequence.held / KV_BLOCK * KV_BLOCK;
        if let (true, Some(id)) = (full > sequence.published, sequence.id) {
            // A cache that does not know its own sequence has nothing to publish.
            let _ = self.cache.publish(id, &sequence.tokens[..sequence.held]);
            sequence.published = full;
        }
    }

    fn release(&mut self, sequence: &mut RunningSequence<B>) {
        if let Some(id) = sequence.id.take() {
            let _ = self.cache.close(id);
        }
        sequence.held = 0;
        sequence.published = 0;
    }

    fn leave(&mut self, sequence: &RunningSequence<B>, waiting: bool) {
        self.tokens.leave(&sequence.key);
        self.shared.inbox.ended(&sequence.key, waiting);
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
            let mut sequence = self.finish(0);
            // In a step that panicked some had their end before.
            self.stats.failed += u64::from(!sequence.over);
            sequence.tell(Event::Failed(error.clone()));
        }
    }

    /// Fails everything that is left.
    fn stop(&mut self) {
        self.fail_all(&EngineError::Stopped);
        for mut sequence in self.queue.drain_if(|_| true) {
            self.leave(&sequence, true);
            sequence.tell(Event::Failed(EngineError::Stopped));
        }
        for request in self.shared.inbox.stop() {
            let key = request.key.clone();
            request.refuse(EngineError::Stopped);
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
fn runs_the_same_prompt<B: Backend>(
    running: &[RunningSequence<B>],
    sequence: &RunningSequence<B>,
) -> bool {
    let of_prompt =
        |other: &&RunningSequence<B>| other.rest() > 1 && other.cache_salt == sequence.cache_salt;
    running.iter().filter(of_prompt).any(|other| {
        let shared = other.tokens.iter().zip(&sequence.tokens).take_while(|(a, b)| a == b).count();
        // At least one token is run for its logits.
        let useful = shared.min(sequence.tokens.len() - 1) / KV_BLOCK * KV_BLOCK;
        useful > other.published
    })
}

/// Blocks that a running request will ask for until its prompt has been run.
fn blocks_to_come<B: Backend>(sequence: &RunningSequence<B>) -> usize {
    sequence.tokens.len().div_ceil(KV_BLOCK) - sequence.held.div_ceil(KV_BLOCK)
}
