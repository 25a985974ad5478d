//! A model made sparse: calibrated, masked, and in the order that leaves zeros out.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{Linear, LogitRows, SequenceId, Span};
use lightglm_kernels::{CodeOrder, LmBackend};
use lightglm_model::decoder::{ChannelLinear, DenseLinear};
use lightglm_quant::{MatrixWeight, QuantizedLinear};
use lightglm_sparse::{
    Calibration, Magnitude, ModelFingerprint, Recording, SparseLinear, Thresholds,
};

use crate::serving::{QuantizedGlm, ServedModel};

/// The projection that stays dense: its outputs are the answer.
const HEAD: &str = "lm_head";

/// Bytes of a channel's weights from which on a matrix is brought into the order of channels. Shorter
/// runs are read so slowly that leaving half of them out gains nothing: such a matrix gets its mask,
/// and is read whole.
pub const SHORTEST_RUN: usize = 1024;

/// A sparse model and what was found about it.
pub struct SparseModel<B: LmBackend> {
    /// The model.
    pub model: Box<dyn ServedModel<B>>,
    /// What it was given.
    pub thresholds: Thresholds,
    /// The fraction of the blocks' weights that a token of the check did without, on average.
    pub sparsity: f64,
    /// Bytes that a token did not read, on average: of the matrices in the order of channels.
    pub skipped_bytes: usize,
}

/// Makes `model` sparse: thresholds for `sparsity` of each projection's inputs in the decoder blocks
/// (the head stays dense), found on the tokens `calibrate`; what they leave out is then counted on
/// the tokens `check`, with all masks at work. `shortest_run` is that of [`masked`].
///
/// # Errors
/// Where there are no tokens, or activations are not finite.
pub fn sparsify<B: LmBackend>(
    model: QuantizedGlm<B>,
    sparsity: f64,
    calibrate: &[u32],
    check: &[u32],
    shortest_run: usize,
) -> Result<SparseModel<B>> {
    let calibration = calibrated(&model, &[calibrate], &mut |_| Ok(()))?;
    let thresholds = calibration.thresholds(sparsity, |name| sparsity_in_blocks(name, sparsity))?;
    let counted = count(&model, &thresholds, &[check], shortest_run)?;
    Ok(SparseModel {
        model: masked(model, &thresholds, shortest_run)?,
        thresholds,
        sparsity: counted.sparsity,
        skipped_bytes: counted.skipped_bytes,
    })
}

/// `sparsity`, or 0 for the head.
pub fn sparsity_in_blocks(name: &str, sparsity: f64) -> f64 {
    if name == HEAD { 0.0 } else { sparsity }
}

/// Which model thresholds belong to: its projections, and the weights of its norms. A scheme changes
/// neither, so that thresholds serve a model in any; what is folded into norms does.
pub fn fingerprint<B: LmBackend>(model: &QuantizedGlm<B>) -> ModelFingerprint {
    let mut shapes = Vec::new();
    let mut weights = Vec::new();
    let norms = model.layers.iter().flat_map(|block| {
        let after = [&block.post_self_attn_layernorm, &block.post_mlp_layernorm];
        let before = [&block.input_layernorm, &block.post_attention_layernorm];
        before.into_iter().chain(after.into_iter().flatten())
    });
    for norm in norms.chain([&model.norm]) {
        let values = norm.weight.val().into_data();
        weights.extend(values.iter::<f32>().flat_map(f32::to_le_bytes));
    }
    model.for_each_linear(|name, linear| shapes.push((name.to_owned(), linear.shape())));
    let shapes = shapes.iter().map(|(name, shape)| (name.as_str(), *shape));
    ModelFingerprint::new(shapes, &weights)
}

/// How large the inputs of each projection are over `windows` of tokens, each on its own. `on_window`
/// is told how many windows are done; its error ends the run.
///
/// # Errors
/// Where the model refuses the tokens, and that of `on_window`.
pub fn calibrated<B: LmBackend>(
    model: &QuantizedGlm<B>,
    windows: &[&[u32]],
    on_window: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Arc<Calibration>> {
    let calibration = Arc::new(Calibration::default());
    let recording = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        SparseLinear::new(linear, Recording::new(name, calibration.clone()))
    });
    for (done, window) in windows.iter().enumerate() {
        recording.forward_uncached(&[span(window)])?;
        on_window(done + 1)?;
    }
    Ok(calibration)
}

/// What a token does without, on average.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// The fraction of the blocks' weights.
    pub sparsity: f64,
    /// Bytes of the matrices in the order of channels.
    pub skipped_bytes: usize,
}

/// Counts what `thresholds` leave out over `windows` of tokens, with all masks at work, of a model whose
/// matrices are in the orders of [`masked`].
///
/// # Errors
/// As [`masked`], and where there are no tokens.
pub fn count<B: LmBackend>(
    model: &QuantizedGlm<B>,
    thresholds: &Thresholds,
    windows: &[&[u32]],
    shortest_run: usize,
) -> Result<Counted> {
    let projections = projections(model, shortest_run);
    let policies = policies(&projections, thresholds)?;
    let counter = Arc::new(Calibration::default());
    let counting = model.clone().map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        let policy = policies.get(name).cloned().unwrap_or(DENSE);
        let counting = SparseLinear::new(linear, Recording::new(name, counter.clone()));
        SparseLinear::new(counting, policy)
    });
    for window in windows {
        counting.forward_uncached(&[span(window)])?;
    }
    let (mut weights, mut skipped, mut skipped_bytes) = (0.0, 0.0, 0.0);
    for Projection { name, parameters, by_channel } in &projections {
        let zeros = counter.zeros(name).with_context(|| format!("`{name}` was not run"))?;
        weights += *parameters as f64;
        skipped += zeros * *parameters as f64;
        skipped_bytes += zeros * *by_channel as f64;
    }
    let sparsity = if weights > 0.0 { skipped / weights } else { 0.0 };
    Ok(Counted { sparsity, skipped_bytes: skipped_bytes as usize })
}

/// `model` with `thresholds` before the projections of its blocks. Those whose channels have so many
/// bytes as `shortest_run` ([`SHORTEST_RUN`]) are brought into the order that leaves zeros out.
///
/// # Errors
/// Where a projection of the blocks has no threshold.
pub fn masked<B: LmBackend>(
    model: QuantizedGlm<B>,
    thresholds: &Thresholds,
    shortest_run: usize,
) -> Result<Box<dyn ServedModel<B>>> {
    let projections = projections(&model, shortest_run);
    let policies = policies(&projections, thresholds)?;
    let masked = model.map_linears(&mut |name: &str, linear: QuantizedLinear<B>| {
        let policy = policies.get(name).cloned();
        let linear = match policy.is_some() && run(&linear) >= shortest_run {
            true => AnyOrder::by_channel(linear),
            false => AnyOrder::AsLoaded(linear),
        };
        SparseLinear::new(linear, policy.unwrap_or(DENSE))
    });
    Ok(Box::new(masked))
}

/// A projection in either order.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few hundred of them")]
pub enum AnyOrder<B: Backend> {
    /// Dense or quantized; where quantized, codes have an order of their own.
    AsLoaded(QuantizedLinear<B>),
    /// Dense, channel by channel.
    Channels(ChannelLinear<B>),
}

impl<B: LmBackend> AnyOrder<B> {
    fn by_channel(QuantizedLinear { weight, bias }: QuantizedLinear<B>) -> Self {
        match weight {
            MatrixWeight::Packed(packed) => {
                let weight = MatrixWeight::Packed(packed.with_order(CodeOrder::Channels));
                Self::AsLoaded(QuantizedLinear { weight, bias })
            }
            MatrixWeight::Dense(weight) => Self::Channels(DenseLinear { weight, bias }.into()),
        }
    }
}

impl<B: LmBackend> Linear<B> for AnyOrder<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::AsLoaded(linear) => linear.forward(x),
            Self::Channels(linear) => linear.forward(x),
        }
    }

    fn shape(&self) -> [usize; 2] {
        match self {
            Self::AsLoaded(linear) => linear.shape(),
            Self::Channels(linear) => linear.shape(),
        }
    }

    fn bytes_read(&self) -> usize {
        match self {
            Self::AsLoaded(linear) => linear.bytes_read(),
            Self::Channels(linear) => linear.bytes_read(),
        }
    }
}

/// What has no threshold stays dense.
const DENSE: Magnitude = Magnitude { threshold: 0.0 };

/// A projection of the blocks.
struct Projection {
    name: String,
    parameters: usize,
    /// Bytes in the order of channels.
    by_channel: usize,
}

/// The projections that can be sparse.
fn projections<B: LmBackend>(model: &QuantizedGlm<B>, shortest_run: usize) -> Vec<Projection> {
    let mut found = Vec::new();
    model.for_each_linear(|name, linear| {
        if name != HEAD {
            let ([n, k], run) = (linear.shape(), run(linear));
            let by_channel = if run >= shortest_run { k * run } else { 0 };
            found.push(Projection { name: name.to_owned(), parameters: n * k, by_channel });
        }
    });
    found
}

/// Bytes of a channel's weights.
fn run<B: LmBackend>(linear: &QuantizedLinear<B>) -> usize {
    let [n, _] = linear.shape();
    let bits = match &linear.weight {
        MatrixWeight::Packed(packed) => packed.format().bits.count(),
        MatrixWeight::Dense(weight) => weight.val().dtype().size() * 8,
    };
    n * bits / 8
}

fn policies(
    projections: &[Projection],
    thresholds: &Thresholds,
) -> Result<BTreeMap<String, Magnitude>> {
    let policy = |projection: &Projection| {
        let threshold = thresholds.get(&projection.name)?;
        Ok((projection.name.clone(), Magnitude { threshold }))
    };
    projections.iter().map(policy).collect()
}

fn span(tokens: &[u32]) -> Span<'_> {
    Span { sequence: SequenceId(0), tokens, logits: LogitRows::Last }
}
