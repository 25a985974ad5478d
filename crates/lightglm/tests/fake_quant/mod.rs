//! A dense model that computes what a quantized one would: rounded weights, rounded activations.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{CausalLm, Embedding, Linear, LogitRows, SequenceId, Span};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::packed::reference::fake_quantize;
use lightglm_kernels::{ActivationFormat, LmBackend};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseEmbedding, DenseLinear, Glm, SwiGlu};

/// A projection with the weights that come back from quantization.
#[derive(Module, Debug)]
pub(crate) struct FakeLinear<B: Backend> {
    dense: DenseLinear<B>,
    #[module(skip)]
    activation: Option<ActivationFormat>,
}

impl<B: LmBackend> Linear<B> for FakeLinear<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = match self.activation {
            Some(format) => fake_quantize(x, format),
            None => x,
        };
        self.dense.forward(x)
    }

    fn shape(&self) -> [usize; 2] {
        self.dense.shape()
    }

    fn bytes_read(&self) -> usize {
        self.dense.bytes_read()
    }
}

/// The same for the embedding table, which is the head as well.
#[derive(Module, Debug)]
pub(crate) struct FakeEmbedding<B: Backend> {
    dense: DenseEmbedding<B>,
    #[module(skip)]
    activation: Option<ActivationFormat>,
}

impl<B: LmBackend> Embedding<B> for FakeEmbedding<B> {
    fn forward(&self, ids: &[u32]) -> Tensor<B, 2> {
        self.dense.forward(ids)
    }

    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = match self.activation {
            Some(format) => fake_quantize(x, format),
            None => x,
        };
        self.dense.project(x)
    }

    fn shape(&self) -> [usize; 2] {
        self.dense.shape()
    }

    fn bytes(&self) -> usize {
        self.dense.bytes()
    }
}

pub(crate) type FakeGlm =
    Glm<Flex, FakeLinear<Flex>, SwiGlu<Flex, FakeLinear<Flex>>, FakeEmbedding<Flex>>;
pub(crate) type Dense = lightglm_model::decoder::DenseGlm<Flex>;

/// Replaces weights: `weights(name, values, shape)` gives the rounded ones (`None`: as they are),
/// `activation(name)` what happens to a projection's input.
pub(crate) fn fake(
    model: &Dense,
    mut weights: impl FnMut(&str, &[f32], [usize; 2]) -> Option<Vec<f32>>,
    activation: impl Fn(&str) -> Option<ActivationFormat>,
) -> FakeGlm {
    let mut replace = |name: &str, weight: &mut Param<Tensor<Flex, 2>>| {
        let shape = weight.dims();
        let values = weight.val().into_data().convert::<f32>().into_vec::<f32>().unwrap();
        if let Some(values) = weights(name, &values, shape) {
            *weight =
                Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &FlexDevice));
        }
    };
    let mut embedding = model.embed_tokens.clone();
    replace("model.embed_tokens", &mut embedding.weight);
    model
        .clone()
        .map_linears(&mut |name: &str, mut dense: DenseLinear<Flex>| {
            replace(name, &mut dense.weight);
            FakeLinear { dense, activation: activation(name) }
        })
        .map_embedding(|_| FakeEmbedding { dense: embedding, activation: activation("lm_head") })
}

/// Logits of the reference model on every window of the text.
pub(crate) struct Reference {
    pub(crate) windows: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
    vocab_size: usize,
}

/// What a candidate lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) kld: f64,
    pub(crate) top1: f64,
    /// Perplexity over the reference's.
    pub(crate) ratio: f64,
}

pub(crate) fn logits(model: &dyn CausalLm<Flex>, config: &GlmConfig, tokens: &[u32]) -> Vec<f32> {
    let mut cache = ContiguousKvCache::<Flex>::new(
        KvShape::of(config),
        1,
        tokens.len(),
        KvDtype::F32,
        &FlexDevice,
    );
    let span = Span::text(SequenceId(0), tokens, LogitRows::All);
    let logits = model.forward(&[span], &mut cache).unwrap();
    logits.into_data().into_vec::<f32>().unwrap()
}

impl Reference {
    pub(crate) fn new(
        model: &dyn CausalLm<Flex>,
        config: &GlmConfig,
        tokens: &[u32],
        context: usize,
    ) -> Self {
        let windows: Vec<Vec<u32>> = tokens.chunks_exact(context).map(<[u32]>::to_vec).collect();
        let logits = windows.iter().map(|window| logits(model, config, window)).collect();
        Self { windows, logits, vocab_size: model.vocab_size() }
    }

    pub(crate) fn compare(&self, model: &dyn CausalLm<Flex>, config: &GlmConfig) -> Loss {
        use rayon::prelude::*;
        let v = self.vocab_size;
        let mut sums = [0.0f64; 4];
        for (window, p) in self.windows.iter().zip(&self.logits) {
            let q = logits(model, config, window);
            let rows: Vec<[f64; 4]> = (0..window.len() - 1)
                .into_par_iter()
                .map(|i| {
                    let target = window[i + 1] as usize;
                    let (p, q) = (&p[i * v..(i + 1) * v], &q[i * v..(i + 1) * v]);
                    compare_row(p, q, target)
                })
                .collect();
            for row in rows {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        }
        let count: usize = self.windows.iter().map(|w| w.len() - 1).sum();
        let [kld, top1, nll_p, nll_q] = sums.map(|sum| sum / count as f64);
        Loss { kld, top1, ratio: (nll_q - nll_p).exp() }
    }
}

fn compare_row(p: &[f32], q: &[f32], target: usize) -> [f64; 4] {
    let lse = |x: &[f32]| {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = x.iter().map(|&x| f64::from((x - max).exp())).sum();
        f64::from(max) + sum.ln()
    };
    let argmax = |x: &[f32]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
    let (p_lse, q_lse) = (lse(p), lse(q));
    let kld: f64 = p
        .iter()
        .zip(q)
        .map(|(&p, &q)| {
            let ln_p = f64::from(p) - p_lse;
            f64::from((ln_p as f32).exp()) * (ln_p - (f64::from(q) - q_lse))
        })
        .sum();
    let same = f64::from(u8::from(argmax(p) == argmax(q)));
    [kld, same, p_lse - f64::from(p[target]), q_lse - f64::from(q[target])]
}
