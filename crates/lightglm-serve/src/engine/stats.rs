//! `EngineStats`: what the engine is doing, and what it has done.

/// A snapshot, and counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests that hold KV blocks.
    pub running: usize,
    /// Blocks of the KV cache.
    pub kv_blocks: usize,
    /// Blocks that running requests hold.
    pub kv_blocks_used: usize,
    /// Blocks that nobody holds and whose contents a later prompt may take up.
    pub kv_blocks_cached: usize,
    /// Steps: a forward pass for each model that somebody ran.
    pub steps: u64,
    /// Sequences in all of them: `sequences / steps` is the mean batch.
    pub sequences: u64,
    /// Prompt tokens that were run.
    pub prompt_tokens: u64,
    /// Prompt tokens that the cache held already.
    pub cached_tokens: u64,
    /// Tokens that were chosen.
    pub generated_tokens: u64,
    /// Tokens that speculation proposed.
    pub drafted_tokens: u64,
    /// Proposed tokens that were right.
    pub accepted_tokens: u64,
    /// Times that a running request gave its blocks up to be computed again.
    pub preemptions: u64,
    /// Requests that got their reply.
    pub finished: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were not accepted.
    pub rejected: u64,
}
