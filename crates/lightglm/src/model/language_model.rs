//! `LanguageModel`: any loaded decoder as one type, and `Loaded`, which says how it is held.

use std::sync::Arc;

use lightglm_core::{CausalLm, Embedding, FeedForward, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::Glm;

use crate::error::Error;
use crate::sparse::PromptNeurons;

/// A language model that knows what a step of it reads.
pub trait LanguageModel<B: LmBackend>: CausalLm<B> + Send + Sync {
    /// Bytes of weights that one step of `rows` rows must read.
    fn bytes_read(&self, rows: usize) -> usize;
}

impl<B: LmBackend, L, F, E> LanguageModel<B> for Glm<B, L, F, E>
where
    L: Linear<B> + Send + Sync,
    F: FeedForward<B> + Send + Sync,
    E: Embedding<B> + Send + Sync,
{
    fn bytes_read(&self, rows: usize) -> usize {
        Glm::bytes_read(self, rows)
    }
}

/// Makes the model of an adapter's name: the base model's weights with LoRA matrices beside them.
pub type LoadAdapter<B> =
    Arc<dyn Fn(&str) -> Result<Arc<dyn LanguageModel<B>>, Error> + Send + Sync>;

/// A loaded model whose backend is known: what [`Model`](crate::Model) has inside, for those who
/// bring a backend, a cache or a loop of their own.
#[derive(Clone)]
pub struct Loaded<B: LmBackend> {
    /// The model.
    pub model: Arc<dyn LanguageModel<B>>,
    /// How its weights are held: `bf16`, `int8`, a policy.
    pub scheme: String,
    /// Whether projections multiply integers.
    pub integer: bool,
    /// Makes adapted models; `None` without [`LoadOptions::adapters`](crate::LoadOptions::adapters).
    pub adapters: Option<LoadAdapter<B>>,
    /// Makes the model of a conversation, with
    /// [`Sparsity::PromptNeurons`](crate::Sparsity::PromptNeurons); `model` is then the whole model.
    pub prompt_neurons: Option<PromptNeurons<B>>,
    /// Where it is.
    pub device: B::Device,
}

impl<B: LmBackend> Loaded<B> {
    /// A model without adapters, whose prompts choose nothing.
    pub fn new(
        model: Arc<dyn LanguageModel<B>>,
        scheme: impl Into<String>,
        integer: bool,
        device: &B::Device,
    ) -> Self {
        let (scheme, device) = (scheme.into(), device.clone());
        Self { model, scheme, integer, adapters: None, prompt_neurons: None, device }
    }
}
