//! Looking at a forward pass from outside.

use burn::tensor::{Tensor, backend::Backend};

/// A place in the decoder whose value can be observed: `[T, D]` where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The embedded tokens.
    Embed,
    /// A block's queries as attention multiplies them, normed and rotated: `[T, H d]`.
    Queries(usize),
    /// A block's keys, likewise: `[T, G d]`.
    Keys(usize),
    /// A block's values: `[T, G d]`.
    Values(usize),
    /// A block's attention branch after `o_proj`, before its post-norm and the addition.
    SelfAttnOut(usize),
    /// A block's feed-forward branch after `down_proj`, before its post-norm and the addition.
    MlpOut(usize),
    /// The residual stream after a block.
    Layer(usize),
    /// The input of the head.
    FinalNorm,
}

/// Sees the values at each [`Site`] of a forward pass, in order.
pub trait ForwardHook<B: Backend> {
    /// Called with `value`, the packed rows of all spans.
    fn observe(&mut self, site: Site, value: &Tensor<B, 2>);
}

/// Looks away.
impl<B: Backend> ForwardHook<B> for () {
    fn observe(&mut self, _: Site, _: &Tensor<B, 2>) {}
}

/// A closure observes.
impl<B: Backend, F: FnMut(Site, &Tensor<B, 2>)> ForwardHook<B> for F {
    fn observe(&mut self, site: Site, value: &Tensor<B, 2>) {
        self(site, value);
    }
}
