//! `SelectedKvLayer`: a KV pool whose decode steps attend to the most promising pages only.
//!
//! Shapes: `P` blocks, `K` kv heads, `d` head_dim.

use burn::tensor::{DType, Tensor, backend::Backend};

use crate::kv_cache::{KV_BLOCK, KvLayer};

/// A pool and, per page (a block of [`KV_BLOCK`] positions) and kv head, channel-wise bounds of its
/// keys.
///
/// A span of one row attends to the pages with the largest `sum_d max(q_d min_d, q_d max_d)`, summed
/// over the query heads of a kv head, and to the page of its own position. Spans of several rows, and
/// contexts within the budget, are attended to exactly.
///
/// Source: Tang et al. 2024, "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
/// sections 3.2 and 3.3.
#[derive(Clone, Debug)]
pub struct SelectedKvLayer<B: Backend> {
    /// Keys and values: a float or an eight-bit pool.
    pub pool: KvLayer<B>,
    /// `[P, K, 2, d]`, f32: minimum, then maximum of the keys as they were appended, before any
    /// rotation or rounding of the pool. They start anew at offset 0 of a block; after a truncation
    /// in the middle of a block they may be wider than need be.
    pub bounds: Tensor<B, 4>,
    /// How much a decode step reads.
    pub budget: PageBudget,
}

/// Positions that a decode step attends to at most, rounded up to whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageBudget {
    /// Positions; 0 counts as 1, because the newest page is always read.
    pub positions: usize,
}

impl PageBudget {
    /// Pages that are read, one at least.
    pub fn pages(self) -> usize {
        self.positions.div_ceil(KV_BLOCK).max(1)
    }

    /// Whether a span of `rows` rows behind `past` positions is attended to in part.
    pub fn selects(self, rows: usize, past: usize) -> bool {
        rows == 1 && past / KV_BLOCK + 1 > self.pages()
    }
}

impl<B: Backend> SelectedKvLayer<B> {
    /// An empty `pool` of shape `[P, K, d]` with bounds.
    pub fn new(
        pool: KvLayer<B>,
        [p, k, d]: [usize; 3],
        budget: PageBudget,
        device: &B::Device,
    ) -> Self {
        Self { pool, bounds: Tensor::zeros([p, k, 2, d], (device, DType::F32)), budget }
    }
}
