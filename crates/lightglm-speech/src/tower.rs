//! `SpeechTower`: an encoder over the frames of a spectrum.
//!
//! Shapes: `F` frames of a spectrum, `M` mel bands, `T = ceil(F / 2)` frames of the encoder, `D` hidden_size, `I`
//! intermediate_size, `H` heads, `G` kv heads, `d` head_dim, `O` out_hidden_size.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::Linear;
use lightglm_kernels::{AttentionShape, LmBackend};
use lightglm_model::decoder::{DenseLinear, LayerNorm};

use crate::weights::{KERNEL, PROJECTOR, TOWER};

/// An encoder with projections `L`.
///
/// ```text
/// x = gelu(conv2(gelu(conv1(spectrum))))                       windows of 3 frames; conv2 takes every second
/// x = x + o(attention(rotate(q, k), v));  x = x + fc2(gelu(fc1(x)))       each behind a norm; layer after layer
/// y = linear_2(gelu(linear_1(I / D frames of norm(x), side by side)))
/// ```
///
/// Source: transformers 5.23.0, `modeling_glmasr.py`, `GlmAsrEncoder`, `GlmAsrMultiModalProjector`.
#[derive(Module, Debug)]
pub struct SpeechTower<B: Backend, L: Module<B>> {
    /// `[D, M 3]`.
    pub conv1: L,
    /// `[D, D 3]`.
    pub conv2: L,
    /// The layers.
    pub layers: Vec<SpeechLayer<B, L>>,
    /// Behind the last one.
    pub norm: LayerNorm<B>,
    /// From the encoder's frames to the decoder's rows.
    pub projector: Projector<B, L>,
    /// `M`.
    pub mel_bins: usize,
    /// Radians a frame of each rotated pair, `[r / 2]`.
    #[module(skip)]
    pub inv_freq: Vec<f32>,
}

/// An encoder with weights in their stored precision.
pub type DenseSpeechTower<B> = SpeechTower<B, DenseLinear<B>>;

/// One layer of an encoder.
#[derive(Module, Debug)]
pub struct SpeechLayer<B: Backend, L: Module<B>> {
    /// Before attention.
    pub input_layernorm: LayerNorm<B>,
    /// Of all frames of a window to all.
    pub self_attn: SpeechAttention<B, L>,
    /// Before the feed-forward part.
    pub post_attention_layernorm: LayerNorm<B>,
    /// The feed-forward part.
    pub mlp: SpeechMlp<B, L>,
}

/// Projections around attention.
#[derive(Module, Debug)]
pub struct SpeechAttention<B: Backend, L: Module<B>> {
    /// `[H d, D]`.
    pub q_proj: L,
    /// `[G d, D]`, without a bias.
    pub k_proj: L,
    /// `[G d, D]`.
    pub v_proj: L,
    /// `[D, H d]`.
    pub o_proj: L,
    /// `H`.
    pub heads: usize,
    /// `G`.
    pub kv_heads: usize,
    /// `d`.
    pub head_dim: usize,
    pub(crate) backend: PhantomData<B>,
}

/// `fc2(gelu(fc1(x)))`.
#[derive(Module, Debug)]
pub struct SpeechMlp<B: Backend, L: Module<B>> {
    /// `[I, D]`.
    pub fc1: L,
    /// `[D, I]`.
    pub fc2: L,
    pub(crate) backend: PhantomData<B>,
}

/// `linear_2(gelu(linear_1(x)))`, of frames side by side.
#[derive(Module, Debug)]
pub struct Projector<B: Backend, L: Module<B>> {
    /// `[2 O, I]`.
    pub linear_1: L,
    /// `[O, 2 O]`.
    pub linear_2: L,
    pub(crate) backend: PhantomData<B>,
}

/// A place in the encoder, for [`SpeechTower::forward_with_hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Site {
    /// Behind a layer, `[T, D]`.
    Layer(usize),
    /// Behind the last norm, `[T, D]`.
    Norm,
}

impl<B: LmBackend, L: Linear<B>> SpeechTower<B, L> {
    /// The rows of one window: `spectrum: [M, F] -> [floor(T D / I), O]`. `None` where `between`, which is called between
    /// layers, breaks off.
    pub fn forward(
        &self,
        spectrum: &[f32],
        device: &B::Device,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Tensor<B, 2>> {
        self.forward_with_hook(spectrum, device, between, &mut |_, _| {})
    }

    /// [`Self::forward`], with every [`Site`] shown to `hook`.
    pub fn forward_with_hook(
        &self,
        spectrum: &[f32],
        device: &B::Device,
        between: &mut dyn FnMut() -> ControlFlow<()>,
        hook: &mut dyn FnMut(Site, &Tensor<B, 2>),
    ) -> Option<Tensor<B, 2>> {
        let frames = spectrum.len() / self.mel_bins;
        let windows = first_windows(spectrum, frames);
        let windows = TensorData::new(windows, [frames, self.mel_bins * KERNEL]);
        let windows = Tensor::<B, 2>::from_data(windows, device);
        let x = <B as LmBackend>::gelu(self.conv1.forward(windows));
        let mut x = <B as LmBackend>::gelu(self.conv2.forward(every_second_window(x)));
        let [t, d] = x.dims();
        let (cos, sin) = self.rotary(t, device);
        for (index, layer) in self.layers.iter().enumerate() {
            if between().is_break() {
                return None;
            }
            x = layer.forward(x, &cos, &sin);
            hook(Site::Layer(index), &x);
        }
        let x = self.norm.forward(x);
        hook(Site::Norm, &x);
        let [_, width] = self.projector.linear_1.shape();
        let (together, rows) = (width / d, t / (width / d));
        let x = x.narrow(0, 0, rows * together).reshape([rows, width]);
        let x = <B as LmBackend>::gelu(self.projector.linear_1.forward(x));
        Some(self.projector.linear_2.forward(x))
    }

    /// `(cos, sin)`, each `[T, r / 2]`.
    fn rotary(&self, frames: usize, device: &B::Device) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let angles = (0..frames)
            .flat_map(|frame| self.inv_freq.iter().map(move |frequency| frame as f32 * frequency));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        let shape = [frames, self.inv_freq.len()];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        (tensor(cos), tensor(sin))
    }

    /// Replaces every projection, given its name in a checkpoint without `.weight`:
    /// `audio_tower.layers.3.self_attn.q_proj`.
    pub fn map_linears<M: Linear<B>>(self, mut map: impl FnMut(&str, L) -> M) -> SpeechTower<B, M> {
        let Ok(tower) = self.try_map_linears(|name, linear| Ok::<M, Infallible>(map(name, linear)));
        tower
    }

    /// [`Self::map_linears`] with what may fail.
    ///
    /// # Errors
    /// The first that `map` returns.
    pub fn try_map_linears<M: Linear<B>, Error>(
        self,
        mut map: impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<SpeechTower<B, M>, Error> {
        let mut layers = Vec::with_capacity(self.layers.len());
        let conv1 = map(&format!("{TOWER}.conv1"), self.conv1)?;
        let conv2 = map(&format!("{TOWER}.conv2"), self.conv2)?;
        for (i, layer) in self.layers.into_iter().enumerate() {
            let mut map = |part: &str, linear| map(&format!("{TOWER}.layers.{i}.{part}"), linear);
            let SpeechAttention {
                q_proj,
                k_proj,
                v_proj,
                o_proj,
                heads,
                kv_heads,
                head_dim,
                backend,
            } = layer.self_attn;
            layers.push(SpeechLayer {
                input_layernorm: layer.input_layernorm,
                self_attn: SpeechAttention {
                    q_proj: map("self_attn.q_proj", q_proj)?,
                    k_proj: map("self_attn.k_proj", k_proj)?,
                    v_proj: map("self_attn.v_proj", v_proj)?,
                    o_proj: map("self_attn.o_proj", o_proj)?,
                    heads,
                    kv_heads,
                    head_dim,
                    backend,
                },
                post_attention_layernorm: layer.post_attention_layernorm,
                mlp: SpeechMlp {
                    fc1: map("mlp.fc1", layer.mlp.fc1)?,
                    fc2: map("mlp.fc2", layer.mlp.fc2)?,
                    backend,
                },
            });
        }
        let Projector { linear_1, linear_2, backend } = self.projector;
        Ok(SpeechTower {
            conv1,
            conv2,
            layers,
            norm: self.norm,
            projector: Projector {
                linear_1: map(&format!("{PROJECTOR}.linear_1"), linear_1)?,
                linear_2: map(&format!("{PROJECTOR}.linear_2"), linear_2)?,
                backend,
            },
            mel_bins: self.mel_bins,
            inv_freq: self.inv_freq,
        })
    }
}

impl<B: Backend, L: Linear<B>> SpeechTower<B, L> {
    /// Shows every projection and its name, in the order of [`Self::map_linears`].
    pub fn for_each_linear(&self, visit: &mut dyn FnMut(&str, &L)) {
        visit(&format!("{TOWER}.conv1"), &self.conv1);
        visit(&format!("{TOWER}.conv2"), &self.conv2);
        for (i, layer) in self.layers.iter().enumerate() {
            let attn = &layer.self_attn;
            for (part, linear) in [
                ("self_attn.q_proj", &attn.q_proj),
                ("self_attn.k_proj", &attn.k_proj),
                ("self_attn.v_proj", &attn.v_proj),
                ("self_attn.o_proj", &attn.o_proj),
                ("mlp.fc1", &layer.mlp.fc1),
                ("mlp.fc2", &layer.mlp.fc2),
            ] {
                visit(&format!("{TOWER}.layers.{i}.{part}"), linear);
            }
        }
        visit(&format!("{PROJECTOR}.linear_1"), &self.projector.linear_1);
        visit(&format!("{PROJECTOR}.linear_2"), &self.projector.linear_2);
    }
}

/// What a convolution over three frames of a spectrum `[M, F]` reads, one frame of zeros at each end: `[F, M 3]`.
fn first_windows(spectrum: &[f32], frames: usize) -> Vec<f32> {
    let mut windows = Vec::with_capacity(spectrum.len() * KERNEL);
    for frame in 0..frames {
        for band in spectrum.chunks_exact(frames) {
            for neighbour in 0..KERNEL {
                let at = (frame + neighbour).checked_sub(1);
                windows.push(at.and_then(|at| band.get(at)).copied().unwrap_or(0.0));
            }
        }
    }
    windows
}

/// The same for every second frame of `x: [F, D]`: `[ceil(F / 2), D 3]`.
fn every_second_window<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [frames, d] = x.dims();
    let t = frames.div_ceil(2);
    // Zeros to 2 t + 1 frames: one in front, and one or two behind.
    let zeros = |rows: usize| Tensor::zeros([rows, d], &x.device());
    let padded = Tensor::cat(vec![zeros(1), x.clone(), zeros(2 * t - frames + 1)], 0);
    let from = |first: usize| {
        let pairs = padded.clone().narrow(0, first, 2 * t).reshape([t, 2, d]);
        pairs.narrow(1, 0, 1).reshape([t, d, 1])
    };
    Tensor::cat(vec![from(0), from(1), from(2)], 2).reshape([t, d * KERNEL])
}

impl<B: LmBackend, L: Linear<B>> SpeechLayer<B, L> {
    fn forward(&self, x: Tensor<B, 2>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 2> {
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), cos, sin);
        let x = x + attended;
        let inner = self.mlp.fc1.forward(self.post_attention_layernorm.forward(x.clone()));
        x + self.mlp.fc2.forward(<B as LmBackend>::gelu(inner))
    }
}

impl<B: LmBackend, L: Linear<B>> SpeechAttention<B, L> {
    /// `x: [T, D] -> [T, D]`.
    fn forward(&self, x: Tensor<B, 2>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 2> {
        let [t, _] = x.dims();
        let rotate = |x| B::rotary(x, cos.clone(), sin.clone(), self.head_dim);
        let q = rotate(self.q_proj.forward(x.clone()));
        let k = rotate(self.k_proj.forward(x.clone()));
        let v = self.v_proj.forward(x);
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        let shape = AttentionShape { heads, kv_heads, head_dim };
        #[expect(clippy::single_range_in_vec_init, reason = "one window is one segment")]
        self.o_proj.forward(B::attend_segments(q, k, v, shape, &[0..t]))
    }
}
