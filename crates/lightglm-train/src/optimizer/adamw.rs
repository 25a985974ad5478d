//! AdamW over a module's parameters.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor};
use lightglm_core::GradientSums;
use lightglm_kernels::{AdamWState, AdamWStep, LmGradients};

use super::muon::{MuonConfig, orthogonalized};

/// AdamW's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decay of matrices, in units of the learning rate. Norms and biases, which have one dimension,
    /// do not decay.
    pub weight_decay: f64,
    /// Other steps for matrices that are neither embeddings nor head, with this learning rate and decay; `None`: AdamW's.
    pub muon: Option<MuonConfig>,
}

impl Default for AdamWConfig {
    /// PyTorch's.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, muon: None }
    }
}

/// Mean of gradients and of squared gradients of one parameter, `[elements]` each.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// Mean of gradients; where [`MuonConfig`] has the parameter, its momentum.
    pub first: Tensor<B, 1>,
    /// Mean of squared gradients; zeros where [`MuonConfig`] has the parameter.
    pub second: Tensor<B, 1>,
}

/// The optimizer and its state.
///
/// burn's own AdamW keeps its state in records; this one's moments are plain tensors by parameter, so
/// that checkpoints are safetensors under the parameters' names, one pass over memory updates all
/// three, and clipping over all parameters costs no pass at all.
///
/// Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2, in the
/// form of `torch.optim.AdamW`.
#[derive(Clone, Debug)]
pub struct AdamW<B: AutodiffBackend> {
    config: AdamWConfig,
    steps: u64,
    moments: BTreeMap<ParamId, Moments<B::InnerBackend>>,
}

impl<B: AutodiffBackend<InnerBackend: LmGradients>> AdamW<B> {
    /// No steps yet.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// The state after `steps` steps.
    pub fn restore(
        config: AdamWConfig,
        steps: u64,
        moments: BTreeMap<ParamId, Moments<B::InnerBackend>>,
    ) -> Self {
        Self { config, steps, moments }
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments of a parameter that has had a gradient.
    pub fn moments(&self, id: ParamId) -> Option<&Moments<B::InnerBackend>> {
        self.moments.get(&id)
    }

    /// Updates every parameter of `module` that has a gradient in `sums`, each gradient multiplied
    /// with `grad_scale` (one over the number of labels, times the factor of clipping).
    ///
    /// Hand the module over whole: parameters that nobody else holds are updated in place.
    pub fn step<M: Module<B>>(
        &mut self,
        module: M,
        sums: GradientSums<B>,
        learning_rate: f64,
        grad_scale: f64,
    ) -> M {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, .. } = self.config;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let step = AdamWStep {
            grad_scale: grad_scale as f32,
            decay: 1.0,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            step_size: (learning_rate / (1.0 - beta1.powi(steps))) as f32,
            second_root: (1.0 - beta2.powi(steps)).sqrt() as f32,
            eps: eps as f32,
        };
        let decay = (1.0 - learning_rate * self.config.weight_decay) as f32;
        let muon = self.config.muon.map(|config| (config, learning_rate));
        let outside = 0;
        module.map(&mut Update { moments: &mut self.moments, sums, step, decay, muon, outside })
    }
}

/// Embeddings and head, by the names that they have in the decoder and in transformers.
const OUTSIDE: [&str; 2] = ["embed_tokens", "lm_head"];

struct Update<'a, B: AutodiffBackend> {
    moments: &'a mut BTreeMap<ParamId, Moments<B::InnerBackend>>,
    sums: GradientSums<B>,
    step: AdamWStep,
    decay: f32,
    muon: Option<(MuonConfig, f64)>,
    /// How many of the modules in which it is are one of [`OUTSIDE`].
    outside: usize,
}

impl<B: AutodiffBackend<InnerBackend: LmGradients>> Update<'_, B> {
    /// Muon's step.
    fn orthogonal(
        &self,
        state: AdamWState<B::InnerBackend>,
        grad: Tensor<B::InnerBackend, 1>,
        shape: [usize; 2],
        (config, learning_rate): (MuonConfig, f64),
    ) -> AdamWState<B::InnerBackend> {
        let AdamWState { parameter, first, second } = state;
        let grad = grad * self.step.grad_scale;
        let momentum = config.momentum as f32;
        let first = first * momentum + grad.clone();
        let ahead = first.clone() * momentum + grad;
        let direction = orthogonalized(ahead.reshape(shape)).reshape(parameter.dims());
        // An orthogonal matrix has elements of 1 / sqrt(max(N, K)) on average.
        let size = learning_rate * config.scale * (shape[0].max(shape[1]) as f64).sqrt();
        let parameter = parameter * self.decay - direction * size as f32;
        AdamWState { parameter, first, second }
    }
}

impl<B: AutodiffBackend<InnerBackend: LmGradients>> ModuleMapper<B> for Update<'_, B> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.outside += usize::from(OUTSIDE.contains(&name));
    }

    fn exit_module(&mut self, name: &str, _: &str) {
        self.outside -= usize::from(OUTSIDE.contains(&name));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(grad) = self.sums.take(param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        let (shape, elements) = (tensor.dims(), grad.dims());
        let parameter = tensor.inner().reshape(elements);
        let Moments { first, second } = self.moments.remove(&id).unwrap_or_else(|| {
            let zeros = || Tensor::zeros(elements, (&grad.device(), DType::F32));
            Moments { first: zeros(), second: zeros() }
        });
        let decay = if D > 1 { self.decay } else { 1.0 };
        let step = AdamWStep { decay, ..self.step };
        let state = AdamWState { parameter, first, second };
        let state = match (self.muon.filter(|_| self.outside == 0), &shape[..]) {
            (Some(muon), &[rows, columns]) => self.orthogonal(state, grad, [rows, columns], muon),
            _ => B::InnerBackend::adamw(state, grad, &step),
        };
        let AdamWState { parameter, first, second } = state;
        self.moments.insert(id, Moments { first, second });
        let updated = Tensor::from_inner(parameter.reshape(shape)).require_grad();
        Param::from_mapped_value(id, updated, mapper)
    }
}
