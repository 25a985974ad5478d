//! `Comparison`: a sparse model beside the dense one, in quality and speed.

use lightglm_core::{CausalLm, KvCache, KvCacheError, KvDtype, KvShape};
use lightglm_eval::{Protocol, Subject, kl_divergence};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use serde::Serialize;

use super::activation_thresholds::ActivationThresholds;
use crate::error::Error;
use crate::model::QuantizedGlm;
use crate::progress::ProgressSink;
use crate::speed::in_turns;

/// What is under way, for progress and interruptions.
const DOING: &str = "measuring";

/// Decode steps that speed is measured on.
const STEPS: usize = 48;

/// A sparse model beside the dense one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The sparsity that was aimed at.
    pub sparsity_aimed: f64,
    /// The fraction of the blocks' weights that a token did without, all tokens sparse.
    pub sparsity_counted: f64,
    /// Every token of a window run by the sparse model.
    pub all_tokens: SparseQuality,
    /// The first half of each window run by the dense model, as a prompt would be, and the second,
    /// which alone is scored, by the sparse one.
    ///
    /// Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models",
    /// section 5.1.
    pub second_half: SparseQuality,
    /// Decode speed of the dense model, tokens/s.
    pub dense_decode_tokens_per_s: f64,
    /// Decode speed of the sparse model, tokens/s; the two took turns.
    pub decode_tokens_per_s: f64,
}

/// How far a sparse model is from the dense one on a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparseQuality {
    /// Tokens that were scored.
    pub tokens: usize,
    /// Perplexity of the dense model.
    pub dense_perplexity: f64,
    /// Perplexity of the sparse model.
    pub perplexity: f64,
    /// `perplexity / dense_perplexity - 1`.
    pub perplexity_rise: f64,
    /// Mean divergence from the dense model, in nats.
    pub kl_divergence: f64,
    /// Its standard error.
    pub kl_divergence_standard_error: f64,
    /// The fraction of tokens for which both find the same one most likely.
    pub top1_agreement: f64,
}

/// What sparse models are compared with, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Comparer<'a, B: LmBackend> {
    /// The dense model.
    pub dense: &'a QuantizedGlm<B>,
    /// Its configuration.
    pub config: &'a GlmConfig,
    /// The text: tokens that thresholds were not found on.
    pub tokens: &'a [u32],
    /// Tokens that the models see at once.
    pub context: usize,
    /// Where the model is.
    pub device: &'a B::Device,
}

impl<B: LmBackend> Comparer<'_, B> {
    /// The model with `thresholds` beside the dense one.
    ///
    /// # Errors
    /// Where the thresholds do not fit the model, there is nothing to score, and where `progress`
    /// breaks off.
    pub fn compare(
        &self,
        thresholds: &ActivationThresholds,
        progress: &ProgressSink,
    ) -> Result<Comparison, Error> {
        let windows: Vec<&[u32]> = self.tokens.chunks(self.context.max(1)).collect();
        let counted = thresholds.count(self.dense, &windows)?;
        let sparse = thresholds.apply(self.dense.clone())?;
        let all_tokens = self.quality(&*sparse, 0, progress)?;
        let second_half = self.quality(&*sparse, self.context / 2, progress)?;
        let steps = STEPS.min(self.config.context_length().saturating_sub(1)).max(1);
        let caches = [0; 2].map(|_| self.cache(steps + 1));
        let models: [&dyn CausalLm<B>; 2] = [self.dense, &*sparse];
        let [dense_decode_tokens_per_s, decode_tokens_per_s] =
            in_turns(models, caches, self.tokens, steps, progress)?;
        Ok(Comparison {
            sparsity_aimed: thresholds.sparsity(),
            sparsity_counted: counted.sparsity,
            all_tokens,
            second_half,
            dense_decode_tokens_per_s,
            decode_tokens_per_s,
        })
    }

    /// `sparse` beside the dense model, which also runs the first `prefix` positions of each window
    /// for it; these are not scored.
    fn quality(
        &self,
        sparse: &dyn CausalLm<B>,
        prefix: usize,
        progress: &ProgressSink,
    ) -> Result<SparseQuality, Error> {
        let cache = |positions| -> Result<Box<dyn KvCache<B>>, KvCacheError> {
            Ok(Box::new(self.cache(positions)))
        };
        let (mut of_dense, mut of_sparse) = (cache, cache);
        let context = self.context;
        let protocol =
            Protocol { context_length: context, stride: context, bos: None, context_only: prefix };
        let mut dense = Subject::new(self.dense, &mut of_dense);
        let mut sparse = Subject::new(sparse, &mut of_sparse).with_prefix(prefix, self.dense);
        let result = progress.controlled(DOING, |control| {
            kl_divergence(&mut dense, &mut sparse, self.tokens, &protocol, control)
        })?;
        let (dense, sparse) = (result.reference.perplexity, result.candidate.perplexity);
        Ok(SparseQuality {
            tokens: result.tokens,
            dense_perplexity: dense,
            perplexity: sparse,
            perplexity_rise: sparse / dense - 1.0,
            kl_divergence: result.mean,
            kl_divergence_standard_error: result.standard_error,
            top1_agreement: result.top1_agreement,
        })
    }

    fn cache(&self, positions: usize) -> ContiguousKvCache<B> {
        ContiguousKvCache::new(KvShape::of(self.config), 1, positions, KvDtype::F32, self.device)
    }
}
