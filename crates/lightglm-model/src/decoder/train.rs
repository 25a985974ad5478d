//! `TrainableLm` for the decoder.
//!
//! Shapes: `T` rows (tokens of all spans, packed), `R` labelled rows, `D` hidden_size, `V` vocab_size.

use burn::module::{AutodiffModule, Module, ModuleDisplay, ModuleVisitor, Param};
use burn::tensor::{Tensor, backend::AutodiffBackend};
use lightglm_core::{
    Activations, Embedding, FeedForward, GradientSums, LabelledSpan, Linear, LmError, Objective,
    TrainableLm,
};
use lightglm_kernels::LmBackend;

use super::batch::PackedBatch;
use super::forward_hook::Site;
use super::glm::Glm;
use super::self_attention::StepInputs;
use super::taps::{Injected, Tapped};

impl<B, L, F, E> TrainableLm<B> for Glm<B, L, F, E>
where
    B: AutodiffBackend + LmBackend,
    L: Linear<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
    F: FeedForward<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
    E: Embedding<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
{
    fn evaluate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
    ) -> Result<f64, LmError> {
        let packed = self.pack_labelled(batch)?;
        if packed.has_no_logits() {
            return Ok(0.0);
        }
        let mut tapped = self.tapped_by(objective)?;
        let mut hidden = None;
        self.between_blocks(&packed, &mut tapped, |output| hidden = Some(output));
        let hidden = hidden.expect("the embedded tokens at least");
        let tapped = tapped.into_values().into_iter().map(Tensor::from_inner).collect();
        let hidden = Tensor::from_inner(hidden);
        Ok(value(&self.loss(&packed, batch, objective, hidden, tapped)?))
    }

    fn differentiate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        activations: Activations,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError> {
        let packed = self.pack_labelled(batch)?;
        if packed.has_no_logits() {
            return Ok(0.0);
        }
        match activations {
            Activations::Keep => {
                let mut tapped = self.tapped_by(objective)?;
                let mut hook = |site, value: &Tensor<B, 2>| tapped.keep(site, || value.clone());
                let wants_media = sums.wants_media() && packed.has_media();
                let mut media = None;
                let hidden = self.blocks(&packed, None, &mut hook, |hidden| {
                    // What enters the first block comes first.
                    if !wants_media || media.is_some() {
                        return hidden;
                    }
                    let rows = packed.media::<B>(&hidden.device()).require_grad();
                    media = Some(rows.clone());
                    packed.with_media(hidden, rows)
                });
                let tapped = tapped.into_values();
                let loss = self.loss(&packed, batch, objective, hidden, tapped)?;
                let value = value(&loss);
                let mut gradients = loss.backward();
                sums.collect(self, &mut gradients);
                collect_own(objective, &mut gradients, sums);
                if let Some(gradient) = media.and_then(|rows| rows.grad_remove(&mut gradients)) {
                    sums.set_media(gradient);
                }
                Ok(value)
            }
            Activations::Recompute => self.differentiate_by_blocks(&packed, batch, objective, sums),
        }
    }
}

impl<B, L, F, E> Glm<B, L, F, E>
where
    B: AutodiffBackend + LmBackend,
    L: Linear<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
    F: FeedForward<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
    E: Embedding<B> + AutodiffModule<B, InnerModule: ModuleDisplay>,
{
    /// Room for what `objective` looks at besides the logits.
    fn tapped_by<T>(&self, objective: &dyn Objective<B>) -> Result<Tapped<T>, LmError> {
        let taps = objective.taps().map(|objective| objective.taps());
        Tapped::new(&taps.unwrap_or_default(), self.layers.len())
    }

    /// The objective of a batch with labels: of the logits, for the last block's output `hidden: [T, D]`, and of what it
    /// looks at besides.
    fn loss(
        &self,
        packed: &PackedBatch,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        hidden: Tensor<B, 2>,
        tapped: Vec<Tensor<B, 2>>,
    ) -> Result<Tensor<B, 1>, LmError> {
        let logits = self.head_over_labelled(packed, hidden).expect("rows are labelled");
        let loss = objective.loss(logits, batch)?;
        match objective.taps() {
            Some(taps) => Ok(loss + taps.loss(tapped, batch)?),
            None => Ok(loss),
        }
    }

    /// Shows the residual stream in front of each block and behind the last one, without a graph, to `each`, and
    /// keeps what is tapped.
    fn between_blocks(
        &self,
        packed: &PackedBatch,
        tapped: &mut Tapped<Tensor<B::InnerBackend, 2>>,
        mut each: impl FnMut(Tensor<B::InnerBackend, 2>),
    ) {
        let mut hook = |site, value: &Tensor<B, 2>| tapped.keep(site, || value.clone().inner());
        let _ = self.blocks(packed, None, &mut hook, |hidden| {
            let hidden = hidden.inner();
            each(hidden.clone());
            Tensor::from_inner(hidden)
        });
    }

    /// [`Activations::Recompute`]: the loss from the last block's output and from what is tapped, then block after
    /// block backwards, each run again from its input; gradients of what is tapped join where it was.
    fn differentiate_by_blocks(
        &self,
        packed: &PackedBatch,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError> {
        let mut tapped = self.tapped_by(objective)?;
        let mut inputs = Vec::with_capacity(self.layers.len() + 1);
        self.between_blocks(packed, &mut tapped, |hidden| inputs.push(hidden));
        let hidden = leaf(inputs.pop().expect("the embedded tokens at least"));
        let tapped = tapped.map(leaf);
        let loss =
            self.loss(packed, batch, objective, hidden.clone(), tapped.clone().into_values())?;
        let value = value(&loss);
        let mut gradients = loss.backward();
        sums.collect(&self.norm, &mut gradients);
        match &self.lm_head {
            Some(head) => sums.collect(head, &mut gradients),
            None => sums.collect(&self.embed_tokens, &mut gradients),
        }
        collect_own(objective, &mut gradients, sums);
        let mut grad = hidden.grad_remove(&mut gradients).expect("the loss depends on it");
        let injected = Injected::<B>::of(tapped, &mut gradients);
        let (cos, sin) = self.rotary.tables(&packed.positions, &grad.device());
        let spans = packed.attention_spans();
        let step = StepInputs { cos, sin, spans: &spans };
        for (i, block) in self.layers.iter().enumerate().rev() {
            grad = injected.add_to(Site::Layer(i), grad);
            let input = leaf(inputs.pop().expect("one for each block"));
            let mut inside = injected.inside();
            let output = block.forward(i, input.clone(), &step, None, &mut inside);
            let mut gradients = towards(output, grad, inside.into_sum());
            sums.collect(block, &mut gradients);
            grad = input.grad_remove(&mut gradients).expect("a block's output depends on it");
        }
        grad = injected.add_to(Site::Embed, grad);
        if sums.wants_media() && packed.has_media() {
            sums.set_media(packed.media_of(&grad));
        }
        if is_trained(&self.embed_tokens) {
            let output = self.embed(packed);
            sums.collect(&self.embed_tokens, &mut towards(output, grad, None));
        }
        Ok(value)
    }
}

/// The gradients of what an objective learns itself.
fn collect_own<B: AutodiffBackend>(
    objective: &dyn Objective<B>,
    gradients: &mut B::Gradients,
    sums: &mut GradientSums<B>,
) {
    if let Some(taps) = objective.taps() {
        taps.collect(gradients, sums);
    }
}

/// The backward pass of `output` for its gradient `grad`: that of `sum(output grad)`, and of what is added to it.
fn towards<B: AutodiffBackend>(
    output: Tensor<B, 2>,
    grad: Tensor<B::InnerBackend, 2>,
    inside: Option<Tensor<B, 1>>,
) -> B::Gradients {
    let sum = (output * Tensor::from_inner(grad)).sum();
    match inside {
        Some(inside) => (sum + inside).backward(),
        None => sum.backward(),
    }
}

fn leaf<B: AutodiffBackend>(x: Tensor<B::InnerBackend, 2>) -> Tensor<B, 2> {
    Tensor::from_inner(x).require_grad()
}

fn value<B: AutodiffBackend>(loss: &Tensor<B, 1>) -> f64 {
    let loss = loss.clone().inner().into_data().convert::<f64>();
    loss.to_vec::<f64>().map_or(f64::NAN, |loss| loss[0])
}

/// Whether any parameter requires gradients.
fn is_trained<B: AutodiffBackend, M: Module<B>>(module: &M) -> bool {
    struct Any(bool);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut any = Any(false);
    module.visit(&mut any);
    any.0
}
