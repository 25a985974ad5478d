//! `TrainableLm`, `Objective`, `GradientSums`: a model whose loss can be differentiated, what the loss
//! is, and where the gradients go.
//!
//! Shapes: `T` tokens of all spans, `R` labelled rows, `V` vocab_size.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::lm::LmError;
use crate::media::{MediaRows, Positions};
use crate::taps::TapObjective;

/// A sequence to learn from. Spans stand packed in a batch, and each attends to itself alone.
#[derive(Clone, Copy, Debug)]
pub struct LabelledSpan<'a> {
    /// Token ids, at least one; those not below the vocabulary's size are places of media.
    pub tokens: &'a [u32],
    /// The rows of exactly these places, ascending.
    pub media: &'a [MediaRows<'a>],
    /// Where the tokens stand; what follows on nothing begins at 0.
    pub positions: Positions<'a>,
    /// For each token the one that is wanted behind it, `None` where nothing is asked of the model
    /// (the user's turns, say). As long as `tokens`.
    pub targets: &'a [Option<u32>],
}

impl<'a> LabelledSpan<'a> {
    /// Tokens without media.
    pub const fn text(tokens: &'a [u32], targets: &'a [Option<u32>]) -> Self {
        Self { tokens, media: &[], positions: Positions::Follow, targets }
    }

    /// Rows with a target.
    pub fn labels(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}

/// What a model is trained towards.
pub trait Objective<B: Backend> {
    /// The sum (not the mean) over all labelled rows of a batch, `[1]`.
    ///
    /// `logits: [R, V]` has the rows of all spans that have a target, in order.
    ///
    /// # Errors
    /// [`LmError`], from a second model that is asked about the same batch.
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError>;

    /// What the objective makes of values inside of the model; if `None`, the logits are all it looks at.
    ///
    /// A model that cannot show a place refuses it ([`LmError::Tap`]).
    fn taps(&self) -> Option<&dyn TapObjective<B>> {
        None
    }
}

/// How much of a forward pass is kept for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Everything: fastest.
    #[default]
    Keep,
    /// What stands between the blocks; each block is computed again when its gradients are due.
    /// About a third more arithmetic (a half where weights are frozen), and the memory of one block.
    ///
    /// Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    Recompute,
}

/// A causal language model that can be taught.
///
/// Parameters are visited and replaced through burn's `Module`; those that do not require gradients
/// stay as they are.
pub trait TrainableLm<B: AutodiffBackend>: AutodiffModule<B> {
    /// The objective's value on a batch, without gradients and in the memory of one block.
    ///
    /// # Errors
    /// [`LmError`].
    fn evaluate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
    ) -> Result<f64, LmError>;

    /// The objective's value on a batch; its gradients are added to `sums`.
    ///
    /// A batch without a labelled row costs nothing and gives 0.
    ///
    /// # Errors
    /// [`LmError`]; `sums` is then as before.
    fn differentiate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        activations: Activations,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError>;
}

/// Gradients by parameter, summed over batches, each as one run of numbers.
#[derive(Clone, Debug, Default)]
pub struct GradientSums<B: AutodiffBackend> {
    sums: BTreeMap<ParamId, Tensor<B::InnerBackend, 1>>,
    wants_media: bool,
    media: Option<Tensor<B::InnerBackend, 2>>,
}

impl<B: AutodiffBackend> GradientSums<B> {
    /// None yet.
    pub fn new() -> Self {
        Self { sums: BTreeMap::new(), wants_media: false, media: None }
    }

    /// Asks for the gradients of a batch's media rows too: what the encoder that made them learns from.
    #[must_use]
    pub fn with_media(self) -> Self {
        Self { wants_media: true, ..self }
    }

    /// Whether the gradients of media rows are wanted.
    pub fn wants_media(&self) -> bool {
        self.wants_media
    }

    /// Says what the gradients of the last batch's media rows are.
    pub fn set_media(&mut self, gradients: Tensor<B::InnerBackend, 2>) {
        self.media = Some(gradients);
    }

    /// The gradients of the media rows of the batch that was differentiated last, `[M, D]` in the order of the
    /// batch: not summed, as other batches have other rows. `None` where it had none, or where nobody asked.
    pub fn take_media(&mut self) -> Option<Tensor<B::InnerBackend, 2>> {
        self.media.take()
    }

    /// Adds the gradients that a backward pass left for the parameters of `module`.
    pub fn collect<M: Module<B>>(&mut self, module: &M, gradients: &mut B::Gradients) {
        module.visit(&mut Collect { sums: self, gradients });
    }

    /// Adds one parameter's gradient.
    pub fn add(&mut self, id: ParamId, gradient: Tensor<B::InnerBackend, 1>) {
        let sum = match self.sums.remove(&id) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.sums.insert(id, sum);
    }

    /// One parameter's gradient; taken out, so that it can be used in place.
    pub fn take(&mut self, id: ParamId) -> Option<Tensor<B::InnerBackend, 1>> {
        self.sums.remove(&id)
    }

    /// All of them, in the order of their parameters' ids.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Tensor<B::InnerBackend, 1>)> {
        self.sums.iter().map(|(id, sum)| (*id, sum))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

struct Collect<'a, B: AutodiffBackend> {
    sums: &'a mut GradientSums<B>,
    gradients: &'a mut B::Gradients,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !param.is_require_grad() {
            return;
        }
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            let elements = gradient.shape().num_elements();
            self.sums.add(param.id, gradient.reshape([elements]));
        }
    }
}
