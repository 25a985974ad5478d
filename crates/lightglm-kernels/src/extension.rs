//! `LmBackend`: the operations a decoder is made of, as an extension of a burn backend.
//!
//! Shapes: `T` rows (tokens of all spans, packed), `D` hidden_size, `K`/`N` in/out features,
//! `F` intermediate_size, `H` heads, `G` kv heads, `d` head_dim, `r` rotary dimensions,
//! `P` blocks in a KV pool.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::KvLayer;

use crate::cpu::{AttentionShape, AttentionSpan};
use crate::packed::{self, PackedMatrix};
use crate::reference;
use crate::row_loss::RowLoss;

/// What the decoder asks of a backend beyond burn's own operations.
///
/// Every body here is composed of plain burn operations, so any burn backend qualifies with an empty
/// `impl` and autodiff differentiates it. A backend overrides what it does faster; the bodies in
/// [`mod@reference`] stay the specification it is tested against.
///
/// Activations are f32 throughout; weights are f32, f16 or bf16 and are never stored a second time
/// by a fast implementation.
pub trait LmBackend: Backend {
    /// Rows `ids` of an embedding table: `weight: [V, D] -> [T, D]` in f32.
    fn embed(weight: Tensor<Self, 2>, ids: &[u32]) -> Tensor<Self, 2> {
        reference::embed(weight, ids)
    }

    /// `y = x W^T + b`: `x: [T, K]`, `weight: [N, K]`, `bias: [N]` -> `[T, N]`.
    fn project(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        reference::project(x, weight, bias)
    }

    /// [`LmBackend::project`] with the weight channel by channel, as
    /// [`channel_tiles`](crate::channel_tiles) lays it out: `x: [T, K]`, `weight: [tiles, K, R]` with
    /// the `N = out_features` rows of `W` first, `bias: [N]` -> `[T, N]`.
    ///
    /// A fast implementation does not read channels of which every `x` is zero, which is exact where
    /// weights are finite. Sums have an order of their own: `project` differs by rounding.
    fn project_channels(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 3>,
        out_features: usize,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        reference::project_channels(x, weight, out_features, bias)
    }

    /// Rows `ids` of a quantized embedding table `[V, D]`: `[T, D]` in f32.
    fn embed_packed(weight: &PackedMatrix<Self>, ids: &[u32]) -> Tensor<Self, 2> {
        packed::reference::embed_packed(weight, ids)
    }

    /// `y = x W^T + b` with a quantized weight `[N, K]`: `x: [T, K]`, `bias: [N]` -> `[T, N]`.
    ///
    /// `x` is quantized as the weight's [`ActivationFormat`](crate::ActivationFormat) says. With
    /// integer codes `a` of the activations (scales `s_a`) and `w` of the weights (scales `s`,
    /// minimums `m`), sums over the columns of a group:
    ///
    /// ```text
    /// y = (sum(a (w - offset)) * s_a) * s                          one group of each
    /// y = (sum over groups of s * sum(a (w - offset))) * s_a        one scale a token
    /// y = sum over groups of weights of s *
    ///         (sum over their groups of activations of s_a * sum(a (w - offset)))
    /// y = sum over groups of (s * s_a) * sum(a (w - offset))        otherwise
    /// ```
    /// with `s * sum(a w) + m * sum(a)` in place of `s * sum(a (w - offset))` where there are
    /// minimums.
    fn project_packed(
        x: Tensor<Self, 2>,
        weight: &PackedMatrix<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        packed::reference::project_packed(x, weight, bias)
    }

    /// `y = weight * x / sqrt(mean(x^2) + eps)` over the last dimension: `x: [T, D]`.
    ///
    /// Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2> {
        reference::rms_norm(x, weight, eps)
    }

    /// `residual + rms_norm(x)`, GLM-4-0414's post-norm.
    fn rms_norm_add(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        eps: f32,
        residual: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        residual + Self::rms_norm(x, weight, eps)
    }

    /// `silu(gate) * up` for `gate_up: [T, 2F]`, gate first -> `[T, F]`.
    ///
    /// Source: Shazeer 2020, "GLU Variants Improve Transformer", section 2.
    fn swiglu(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::swiglu(gate_up)
    }

    /// `x` where `|x| >= threshold` (or NaN), and 0 elsewhere: `x: [T, K]`.
    fn keep_large(x: Tensor<Self, 2>, threshold: f32) -> Tensor<Self, 2> {
        reference::keep_large(x, threshold)
    }

    /// Rotates the first `r` dimensions of each head in interleaved pairs `(2i, 2i + 1)`:
    /// `x: [T, H d]`, `cos, sin: [T, r / 2]`.
    ///
    /// ```text
    /// y[2i]     = x[2i] cos[i] - x[2i+1] sin[i]
    /// y[2i + 1] = x[2i+1] cos[i] + x[2i] sin[i]
    /// ```
    ///
    /// Source: transformers, `modeling_glm4.py`, `apply_rotary_pos_emb`.
    fn rotary(
        x: Tensor<Self, 2>,
        cos: Tensor<Self, 2>,
        sin: Tensor<Self, 2>,
        head_dim: usize,
    ) -> Tensor<Self, 2> {
        reference::rotary(x, cos, sin, head_dim)
    }

    /// Causal attention of each span with itself, no cache (training, scoring), scores scaled
    /// by `1 / sqrt(d)`: `q: [T, H d]`, `k, v: [T, G d]` -> `[T, H d]`.
    fn attend(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> Tensor<Self, 2> {
        reference::attend(q, k, v, shape, spans)
    }

    /// Attention of each row to all rows of its own segment, to those behind it too (encoders of pictures and
    /// speech), scores scaled by `1 / sqrt(d)`: `q: [T, H d]`, `k, v: [T, G d]` -> `[T, H d]`. The segments lie
    /// one behind the other and cover all rows.
    fn attend_segments(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        shape: AttentionShape,
        segments: &[Range<usize>],
    ) -> Tensor<Self, 2> {
        reference::attend_segments(q, k, v, shape, segments)
    }

    /// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension: `x: [T, D]`, `weight, bias: [D]`.
    ///
    /// Source: Ba, Kiros and Hinton 2016, "Layer Normalization".
    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        eps: f32,
    ) -> Tensor<Self, 2> {
        reference::layer_norm(x, weight, bias, eps)
    }

    /// `x Phi(x)`, `Phi` being the normal distribution: `x: [T, D]`.
    ///
    /// Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    fn gelu(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        reference::gelu(x)
    }

    /// `-log softmax(logits)[target]` of each row: `logits: [R, V]`, `targets: [R]` -> `[R]`.
    ///
    /// # Panics
    /// Where a target is not below `V`.
    fn cross_entropy(logits: Tensor<Self, 2>, targets: &[u32]) -> Tensor<Self, 1> {
        reference::cross_entropy(logits, targets)
    }

    /// `loss` of each row: `logits: [R, V] -> [R]`, in f32.
    fn row_losses(logits: Tensor<Self, 2>, loss: &Arc<dyn RowLoss>) -> Tensor<Self, 1> {
        reference::row_losses(logits, loss)
    }

    /// `value`, bit for bit, with the gradient that `carrier` (of the same shape) would have in its
    /// place: the straight-through estimator's way past a rounding.
    ///
    /// Source: Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons".
    fn straight_through<const D: usize>(
        value: Tensor<Self, D>,
        carrier: Tensor<Self, D>,
    ) -> Tensor<Self, D> {
        reference::straight_through(value, carrier)
    }

    /// Appends `k, v: [T, G d]` to the cache at each span's positions, then attends
    /// `q: [T, H d]` to everything up to its own position -> `[T, H d]`.
    ///
    /// Block tables must be long enough for `past + rows` positions.
    fn attend_cached(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        layer: &mut KvLayer<Self>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> Tensor<Self, 2> {
        reference::append(k, v, layer, shape, spans);
        reference::attend_cached(q, layer, shape, spans)
    }
}
