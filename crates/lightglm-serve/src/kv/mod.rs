//! The paged KV cache: blocks that sequences hold, share, and give back.
//!
//! [`PagedKvCache`] is a `KvCache` to the model and a [`ServingCache`] to a scheduler. It is put
//! together of a pool, which knows who holds a block and which go first, and an index of prefixes,
//! which knows what blocks contain; neither knows of tensors.
//!
//! A block is in one of three places, and `blocks = used + cached + free` always:
//! - **used**: at least one sequence holds it. It may be findable meanwhile.
//! - **cached**: nobody holds it, and it is findable. Evicted when a block is wanted and none is free.
//! - **free**: what it contains means nothing.
//!
//! **A findable block is never written to**: published positions stay, so that every sequence goes on
//! behind them, in a block that is its own, and no block is ever copied.
//!
//! Whoever holds a findable block holds all the blocks before it, too. So a prefix is never evicted
//! before what continues it, and everything costs the same however many blocks there are.
//!
//! ```
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{KV_BLOCK, KvCache, KvDtype, KvShape};
//! use lightglm_serve::kv::{PagedKvCache, ServingCache};
//!
//! let shape = KvShape { layers: 2, key_value_heads: 1, head_dim: 4 };
//! let mut cache = PagedKvCache::<Flex>::new(shape, 8, KvDtype::F16, &FlexDevice);
//! let tokens: Vec<u32> = (0..40).collect();
//! let (first, cached) = cache.open(&tokens, 0);
//! assert_eq!(cached, 0);
//! cache.reserve(first, 40)?; // ... and a forward pass that writes them ...
//! cache.advance(first, 40)?;
//! cache.publish(first, &tokens)?;
//! // The next one with this beginning need not compute its two full blocks again.
//! let (_, cached) = cache.open(&tokens, 0);
//! assert_eq!(cached, 2 * KV_BLOCK);
//! # Ok::<(), lightglm_core::KvCacheError>(())
//! ```
//!
//! Source: Kwon et al. 2023, "Efficient Memory Management for Large Language Model Serving with
//! PagedAttention", sections 4.2 to 4.4; vLLM's design document "Automatic Prefix Caching", from
//! which it differs in that tokens are compared, not only their hash, and that blocks with the same
//! contents become one.

mod block_pool;
mod block_table;
mod paged_kv_cache;
mod prefix_index;
mod serving_cache;

pub use paged_kv_cache::PagedKvCache;
pub use serving_cache::{KvUsage, ServingCache};
