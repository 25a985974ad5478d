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
use super::glm::Glm;
use super::self_attention::StepInputs;

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
        let Some(hidden) = self.between_blocks(&packed).pop() else { return Ok(0.0) };
        match self.head_over_labelled(&packed, Tensor::from_inner(hidden)) {
            Some(logits) => Ok(value(&objective.loss(logits, batch)?)),
            None => Ok(0.0),
        }
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
                let hidden = self.blocks(&packed, None, &mut (), |hidden| hidden);
                let logits = self.head_over_labelled(&packed, hidden).expect("rows are labelled");
                let loss = objective.loss(logits, batch)?;
                let value = value(&loss);
                sums.collect(self, &mut loss.backward());
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
    /// The residual stream in front of each block and behind the last one, without a graph.
    fn between_blocks(&self, packed: &PackedBatch) -> Vec<Tensor<B::InnerBackend, 2>> {
        let mut all = Vec::with_capacity(self.layers.len() + 1);
        let _ = self.blocks(packed, None, &mut (), |hidden| {
            let hidden = hidden.inner();
            all.push(hidden.clone());
            Tensor::from_inner(hidden)
        });
        all
    }

    /// [`Activations::Recompute`]: the loss from the last block's output, then block after block
    /// backwards, each run again from its input.
    fn differentiate_by_blocks(
        &self,
        packed: &PackedBatch,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError> {
        let mut inputs = self.between_blocks(packed);
        let hidden = leaf(inputs.pop().expect("the embedded tokens at least"));
        let logits = self.head_over_labelled(packed, hidden.clone()).expect("rows are labelled");
        let loss = objective.loss(logits, batch)?;
        let value = value(&loss);
        let mut gradients = loss.backward();
        sums.collect(&self.norm, &mut gradients);
        match &self.lm_head {
            Some(head) => sums.collect(head, &mut gradients),
            None => sums.collect(&self.embed_tokens, &mut gradients),
        }
        let mut grad = hidden.grad_remove(&mut gradients).expect("the loss depends on it");
        let (cos, sin) = self.rotary.tables(&packed.positions, &grad.device());
        let spans = packed.attention_spans();
        let step = StepInputs { cos, sin, spans: &spans };
        for (i, block) in self.layers.iter().enumerate().rev() {
            let input = leaf(inputs.pop().expect("one for each block"));
            let output = block.forward(i, input.clone(), &step, None, &mut ());
            let mut gradients = towards(output, grad);
            sums.collect(block, &mut gradients);
            grad = input.grad_remove(&mut gradients).expect("a block's output depends on it");
        }
        if is_trained(&self.embed_tokens) {
            let output = self.embed_tokens.forward(&packed.ids);
            sums.collect(&self.embed_tokens, &mut towards(output, grad));
        }
        Ok(value)
    }
}

/// The backward pass of `output` for its gradient `grad`: that of `sum(output grad)`.
fn towards<B: AutodiffBackend>(
    output: Tensor<B, 2>,
    grad: Tensor<B::InnerBackend, 2>,
) -> B::Gradients {
    (output * Tensor::from_inner(grad)).sum().backward()
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
