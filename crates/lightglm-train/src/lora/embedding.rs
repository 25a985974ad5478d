//! `LoraEmbedding`. Shapes: `T` rows, `V` vocab_size, `D` hidden_size, `r` rank.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Embedding, MasterWeight};
use lightglm_kernels::LmBackend;

use super::LoraAdapter;

/// A table of embeddings with what an adapter has for it, and for the head where the two are tied.
///
/// ```text
/// forward   saved table, or the base's;  + scale (A^T)[ids] B^T
/// project   saved head, or the base's table;  + scale B A x        (tied models alone)
/// ```
/// As in PEFT a tied head stays the base's table where the adapter has another table and says nothing of the
/// head.
#[derive(Module, Debug)]
pub struct LoraEmbedding<B: Backend, E: Module<B>> {
    /// The table that is adapted.
    pub base: E,
    /// `[V, D]`: in place of the base's.
    pub saved: Option<Param<Tensor<B, 2>>>,
    /// `lora_b: [V, r]`, `lora_a: [r, D]`: an update of the table's rows.
    pub adapter: Option<LoraAdapter<B>>,
    /// `[V, D]`: a tied head's own.
    pub saved_head: Option<Param<Tensor<B, 2>>>,
    /// `lora_b: [V, r]`, `lora_a: [r, D]`: an update of a tied head.
    pub head_adapter: Option<LoraAdapter<B>>,
}

impl<B: Backend, E: Module<B>> LoraEmbedding<B, E> {
    /// A table without an adapter.
    pub fn new(base: E) -> Self {
        Self { base, saved: None, adapter: None, saved_head: None, head_adapter: None }
    }
}

impl<B: LmBackend, E: Embedding<B>> Embedding<B> for LoraEmbedding<B, E> {
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2> {
        let rows = match &self.saved {
            Some(table) => B::embed(table.val(), ids),
            None => self.base.forward(ids),
        };
        match &self.adapter {
            None => rows,
            Some(low) => {
                let factors = B::embed(low.lora_b.val(), ids);
                rows + factors.matmul(low.lora_a.val()) * low.scale
            }
        }
    }

    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = match &self.saved_head {
            Some(head) => B::project(x.clone(), head.val(), None),
            None => self.base.project(x.clone()),
        };
        match &self.head_adapter {
            None => y,
            Some(adapter) => y + adapter.project(x),
        }
    }

    fn shape(&self) -> [usize; 2] {
        self.base.shape()
    }

    fn bytes(&self) -> usize {
        let saved = self.saved.iter().chain(&self.saved_head);
        let bytes = |x: &Param<Tensor<B, 2>>| x.shape().num_elements() * x.dtype().size();
        self.base.bytes() + saved.map(bytes).sum::<usize>()
    }
}

/// The saved table where there is one.
impl<B: LmBackend, E: Embedding<B> + MasterWeight<B>> MasterWeight<B> for LoraEmbedding<B, E> {
    fn master_weight(&self) -> Tensor<B, 2> {
        match &self.saved {
            Some(table) => table.val(),
            None => self.base.master_weight(),
        }
    }
}
