//! The decoder.
//!
//! Shapes: `T` rows (tokens of all spans, packed), `R` requested rows, `D` hidden_size,
//! `V` vocab_size.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{
    CausalLm, Embedding, FeedForward, KvCache, LabelledSpan, Linear, LmError, Span,
};
use lightglm_kernels::LmBackend;

use super::batch::{BatchLimits, PackedBatch};
use super::block::Block;
use super::dense_embedding::DenseEmbedding;
use super::dense_linear::{DenseLinear, bytes};
use super::forward_hook::{ForwardHook, Site};
use super::norm::RmsNorm;
use super::rotary::RotaryEmbedding;
use super::self_attention::StepInputs;
use super::swiglu::SwiGlu;

/// A GLM-family decoder over backend `B` with projections `L`, feed-forward parts `F` and the
/// embedding table `E`.
///
/// Dense, quantized, adapted and sparse models are this one type: [`Glm::map_linears`],
/// [`Glm::map_feed_forwards`] and [`Glm::map_embedding`] replace the parts, [`Glm::for_each_linear`]
/// shows them.
#[derive(Module, Debug)]
pub struct Glm<B: Backend, L: Module<B>, F: Module<B>, E: Module<B> = DenseEmbedding<B>> {
    /// `[V, D]`.
    pub embed_tokens: E,
    /// The decoder blocks.
    pub layers: Vec<Block<B, L, F>>,
    /// Before the head.
    pub norm: RmsNorm<B>,
    /// `[V, D]`; `None` where the head is tied to the embedding table.
    pub lm_head: Option<L>,
    /// [`GlmConfig::context_length`](crate::config::GlmConfig::context_length).
    pub context_length: usize,
    #[module(skip)]
    pub(super) rotary: RotaryEmbedding,
}

/// The decoder with weights in their stored precision.
pub type DenseGlm<B> = Glm<B, DenseLinear<B>, SwiGlu<B, DenseLinear<B>>>;

impl<B: LmBackend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> Glm<B, L, F, E> {
    /// Logits of each span attending to itself alone, without a cache: `[R, V]`.
    ///
    /// What training and scoring use; differentiable where `L` and `F` are.
    ///
    /// # Errors
    /// As [`CausalLm::forward`].
    pub fn forward_uncached(&self, spans: &[Span<'_>]) -> Result<Tensor<B, 2>, LmError> {
        let batch = PackedBatch::uncached(spans, self.limits())?;
        let hidden = self.hidden(&batch, None, &mut ());
        Ok(self.logits(&batch, hidden))
    }

    /// [`CausalLm::forward`] with every [`Site`] shown to `hook`.
    ///
    /// # Errors
    /// As [`CausalLm::forward`].
    pub fn forward_with_hook(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
        hook: &mut impl ForwardHook<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        let batch = PackedBatch::cached(spans, cache, self.limits())?;
        let hidden = self.hidden(&batch, Some(cache), hook);
        for span in spans {
            cache.advance(span.sequence, span.tokens.len())?;
        }
        Ok(self.logits(&batch, hidden))
    }

    /// Logits of the rows of `batch` that have a target, in order: `[R, V]`; without a cache, and
    /// differentiable as [`Self::forward_uncached`] is. What a teacher is asked for.
    ///
    /// # Errors
    /// As [`CausalLm::forward`], and [`LmError::TokenOutOfRange`] for a target too.
    pub fn labelled_logits(&self, batch: &[LabelledSpan<'_>]) -> Result<Tensor<B, 2>, LmError> {
        let packed = self.pack_labelled(batch)?;
        let hidden = self.blocks(&packed, None, &mut (), |hidden| hidden);
        let device = hidden.device();
        // Not `zeros`: CUDA refuses to launch a kernel over nothing.
        let none = || Tensor::empty([0, self.vocab_size()], &device);
        Ok(self.head_over_labelled(&packed, hidden).unwrap_or_else(none))
    }

    pub(super) fn pack_labelled(&self, batch: &[LabelledSpan<'_>]) -> Result<PackedBatch, LmError> {
        PackedBatch::labelled(batch, self.limits())
    }

    fn limits(&self) -> BatchLimits {
        let [vocab_size, hidden_size] = self.embed_tokens.shape();
        BatchLimits { vocab_size, hidden_size, max_positions: self.context_length }
    }

    /// The final norm and the head over the rows that are asked for: `[R, V]`, `None` without any.
    pub(super) fn head_over_labelled(
        &self,
        packed: &PackedBatch,
        hidden: Tensor<B, 2>,
    ) -> Option<Tensor<B, 2>> {
        Some(self.head(self.norm.forward(packed.select_logit_rows(hidden)?)))
    }

    /// `rows: [R, D] -> [R, V]`.
    fn head(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.lm_head {
            Some(head) => head.forward(rows),
            None => self.embed_tokens.project(rows),
        }
    }

    /// Bytes of weights that one step must read: every projection and norm, the head, and
    /// `rows` rows of the embedding table.
    pub fn bytes_read(&self, rows: usize) -> usize {
        let embedding = self.embed_tokens.bytes();
        let head = self.lm_head.as_ref().map_or(embedding, Linear::bytes_read);
        let blocks: usize = self.layers.iter().map(Block::bytes_read).sum();
        let norm = bytes(&self.norm.weight.val());
        embedding / self.vocab_size() * rows + blocks + norm + head
    }

    /// Runs all blocks and the final norm: `[T, D]`.
    fn hidden(
        &self,
        batch: &PackedBatch,
        cache: Option<&mut dyn KvCache<B>>,
        hook: &mut impl ForwardHook<B>,
    ) -> Tensor<B, 2> {
        let hidden = self.blocks(batch, cache, hook, |hidden| hidden);
        let hidden = self.norm.forward(hidden);
        hook.observe(Site::FinalNorm, &hidden);
        hidden
    }

    /// The embedded tokens, media in their places: `[T, D]`.
    pub(super) fn embed(&self, batch: &PackedBatch) -> Tensor<B, 2> {
        let hidden = self.embed_tokens.forward(&batch.ids);
        if !batch.has_media() {
            return hidden;
        }
        let media = batch.media(&hidden.device());
        batch.with_media(hidden, media)
    }

    /// Embeds the tokens and runs all blocks: `[T, D]`. What enters the first block, and what leaves
    /// each one, passes through `between`.
    pub(super) fn blocks(
        &self,
        batch: &PackedBatch,
        mut cache: Option<&mut dyn KvCache<B>>,
        hook: &mut impl ForwardHook<B>,
        mut between: impl FnMut(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let hidden = self.embed(batch);
        let (cos, sin) = self.rotary.tables(&batch.positions, &hidden.device());
        let spans = batch.attention_spans();
        let step = StepInputs { cos, sin, spans: &spans };
        let mut hidden = between(hidden);
        hook.observe(Site::Embed, &hidden);
        for (index, block) in self.layers.iter().enumerate() {
            let layer = cache.as_deref_mut().map(|cache| cache.layer_mut(index));
            hidden = between(block.forward(index, hidden, &step, layer, hook));
        }
        hidden
    }

    /// The head over the requested rows: `[T, D] -> [R, V]`.
    fn logits(&self, batch: &PackedBatch, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = hidden.device();
        match batch.select_logit_rows(hidden) {
            // Not `zeros`: CUDA refuses to launch a kernel over nothing.
            None => Tensor::empty([0, self.vocab_size()], &device),
            Some(rows) => self.head(rows),
        }
    }
}

impl<B: LmBackend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> CausalLm<B>
    for Glm<B, L, F, E>
{
    fn vocab_size(&self) -> usize {
        self.embed_tokens.shape()[0]
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        self.forward_with_hook(spans, cache, &mut ())
    }
}
