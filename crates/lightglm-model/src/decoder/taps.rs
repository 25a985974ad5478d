//! Values inside of the decoder that an objective looks at, and their gradients on the way back.
//!
//! Shapes: `T` rows (tokens of all spans, packed), `D` the width at a place.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use lightglm_core::{Embedding, FeedForward, LabelledSpan, Linear, LmError, Tap};
use lightglm_kernels::LmBackend;

use super::forward_hook::{ForwardHook, Site};
use super::glm::Glm;

impl<B: LmBackend, L: Linear<B>, F: FeedForward<B>, E: Embedding<B>> Glm<B, L, F, E> {
    /// The values at `taps`, `[T, D]` each, for all tokens of the batch's spans, each of which attends to itself alone.
    /// What a teacher is asked for whose inner values are learnt.
    ///
    /// # Errors
    /// As [`Self::labelled_logits`], and [`LmError::Tap`].
    pub fn tapped(
        &self,
        taps: &[Tap],
        batch: &[LabelledSpan<'_>],
    ) -> Result<Vec<Tensor<B, 2>>, LmError> {
        let mut tapped = Tapped::new(taps, self.layers.len())?;
        let packed = self.pack_labelled(batch)?;
        let mut hook = |site, value: &Tensor<B, 2>| tapped.keep(site, || value.clone());
        let _ = self.blocks(&packed, None, &mut hook, |hidden| hidden);
        Ok(tapped.into_values())
    }
}

/// What was seen at places in a forward pass, in the order in which they were asked for.
#[derive(Clone)]
pub(super) struct Tapped<T>(Vec<(Site, Option<T>)>);

impl<T> Tapped<T> {
    /// Nothing yet, of a decoder of `blocks` blocks.
    pub(super) fn new(taps: &[Tap], blocks: usize) -> Result<Self, LmError> {
        let slot = |&tap| Ok((site(tap, blocks)?, None));
        taps.iter().map(slot).collect::<Result<_, _>>().map(Self)
    }

    /// Keeps `value` where `site` was asked for.
    pub(super) fn keep(&mut self, site: Site, value: impl Fn() -> T) {
        for (_, slot) in self.0.iter_mut().filter(|(wanted, _)| *wanted == site) {
            *slot = Some(value());
        }
    }

    pub(super) fn map<U>(self, map: impl Fn(T) -> U) -> Tapped<U> {
        Tapped(self.0.into_iter().map(|(site, value)| (site, value.map(&map))).collect())
    }

    /// After the forward pass.
    pub(super) fn into_values(self) -> Vec<T> {
        let values = self.0.into_iter().map(|(_, value)| value);
        values.map(|value| value.expect("every site of the decoder was passed")).collect()
    }
}

fn site(tap: Tap, blocks: usize) -> Result<Site, LmError> {
    let refused = LmError::Tap { tap, blocks };
    let block = |n: usize| n.checked_sub(1).filter(|&i| i < blocks).ok_or(refused.clone());
    Ok(match tap {
        Tap::Hidden(0) => Site::Embed,
        Tap::Hidden(n) => Site::Layer(block(n)?),
        Tap::Queries(n) => Site::Queries(block(n)?),
        Tap::Keys(n) => Site::Keys(block(n)?),
        Tap::Values(n) => Site::Values(block(n)?),
        _ => return Err(refused),
    })
}

/// The gradients of tapped values, for a decoder that is differentiated block by block.
pub(super) struct Injected<B: AutodiffBackend>(Vec<(Site, Tensor<B::InnerBackend, 2>)>);

impl<B: AutodiffBackend> Injected<B> {
    /// What the backward pass of the loss left for the leaves `tapped`.
    pub(super) fn of(tapped: Tapped<Tensor<B, 2>>, gradients: &mut B::Gradients) -> Self {
        let gradient = |(site, leaf): (Site, Option<Tensor<B, 2>>)| {
            Some((site, leaf?.grad_remove(gradients)?))
        };
        Self(tapped.0.into_iter().filter_map(gradient).collect())
    }

    fn at(&self, site: Site) -> impl Iterator<Item = &Tensor<B::InnerBackend, 2>> {
        self.0.iter().filter(move |(at, _)| *at == site).map(|(_, gradient)| gradient)
    }

    /// `grad` of the residual stream at `site`, with what was tapped there.
    pub(super) fn add_to(
        &self,
        site: Site,
        grad: Tensor<B::InnerBackend, 2>,
    ) -> Tensor<B::InnerBackend, 2> {
        self.at(site).fold(grad, |grad, tapped| grad + tapped.clone())
    }

    /// Gathers what was tapped inside of a block that is run again.
    pub(super) fn inside(&self) -> Inside<'_, B> {
        Inside { injected: self, sum: None }
    }
}

/// The sum of `value * gradient` over what was tapped inside of a block: its derivative puts the gradients in.
pub(super) struct Inside<'a, B: AutodiffBackend> {
    injected: &'a Injected<B>,
    sum: Option<Tensor<B, 1>>,
}

impl<B: AutodiffBackend> Inside<'_, B> {
    pub(super) fn into_sum(self) -> Option<Tensor<B, 1>> {
        self.sum
    }
}

impl<B: AutodiffBackend> ForwardHook<B> for Inside<'_, B> {
    fn observe(&mut self, site: Site, value: &Tensor<B, 2>) {
        // The residual stream's join before the block is run.
        if !matches!(site, Site::Queries(_) | Site::Keys(_) | Site::Values(_)) {
            return;
        }
        for gradient in self.injected.at(site) {
            let part = (value.clone() * Tensor::from_inner(gradient.clone())).sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + part,
                None => part,
            });
        }
    }
}
