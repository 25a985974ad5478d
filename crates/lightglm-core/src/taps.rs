//! `Tap`, `TapObjective`: places inside of a model that an objective looks at, and its loss there.
//!
//! Shapes: `T` tokens of all spans of a batch, packed; `D` the width at a place.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::lm::LmError;
use crate::training::{GradientSums, LabelledSpan};

/// A place inside of a decoder. Blocks are counted from 1, as the papers on distillation do: 0 is what enters the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tap {
    /// The residual stream behind this block, before any final norm: `[T, hidden_size]`. 0 is the embedded tokens.
    Hidden(usize),
    /// This block's queries as attention multiplies them, normed and rotated, all heads side by side: `[T, H d]`.
    Queries(usize),
    /// This block's keys, likewise, of the key heads that there are: `[T, G d]`.
    Keys(usize),
    /// This block's values: `[T, G d]`.
    Values(usize),
}

/// What an objective makes of the values inside of a model, besides what it makes of the logits.
///
/// The model hands the values out and takes their gradients in; it does not know what they are compared with.
pub trait TapObjective<B: Backend> {
    /// Where it looks. A place may be named twice.
    fn taps(&self) -> Vec<Tap>;

    /// The sum over a batch that is added to the objective's loss, `[1]`: of `tapped`, for each of [`taps`](Self::taps)
    /// the rows `[T, D]` of all tokens of all spans.
    ///
    /// As a loss of logits it adds up over spans, and a span without labels counts nothing.
    ///
    /// # Errors
    /// [`LmError`], from a second model that is asked about the same batch, or where the values do not fit it.
    fn loss(
        &self,
        tapped: Vec<Tensor<B, 2>>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError>;

    /// Adds the gradients of parameters that are its own, after the backward pass of the loss.
    fn collect(&self, gradients: &mut B::Gradients, sums: &mut GradientSums<B>)
    where
        B: AutodiffBackend;
}
