//! What sparsity costs each part of each decoder block, and a budget shared out accordingly.
//!
//! Shapes: `T` rows, `D` hidden_size.

use std::collections::BTreeMap;

use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_quant::QuantizedLinear;
use lightglm_sparse::{ErrorCurve, Magnitude, SparseLinear, SparsityError, Thresholds, allocate};

use super::ActivationStatistics;
use super::error::SparseModelError;
use super::thresholds::sparsity_in_blocks;
use crate::error::Error;
use crate::model::{AloneGlm, QuantizedGlm, alone, run_alone};
use crate::progress::ProgressSink;

/// Projections of a block with one input, and so with one sparsity.
const PARTS: [&[&str]; 4] = [
    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    &["self_attn.o_proj"],
    &["mlp.gate_up_proj"],
    &["mlp.down_proj"],
];

/// Sparsities at which errors are measured.
const LEVELS: [f32; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Parameters that become inactive in one step of the allocation, as a fraction of a block's.
const STEP: f32 = 0.005;

/// The errors of all blocks.
#[derive(Debug)]
pub struct BlockErrors {
    /// By layer, then as [`PARTS`].
    blocks: Vec<Vec<Part>>,
}

/// One part of one block.
#[derive(Debug)]
struct Part {
    parameters: usize,
    curve: ErrorCurve,
}

impl BlockErrors {
    /// Runs every block by itself on what reaches it in the dense model, dense and with one part
    /// sparse at a time, and takes the mean over the rows of
    ///
    /// ```text
    /// |block(x) - sparse block(x)|^2 / |block(x)|^2
    /// ```
    /// `progress` is told about every run of a block.
    ///
    /// # Errors
    /// Where the model refuses `tokens`, nothing was recorded, an error is not finite, and where
    /// `progress` breaks off.
    ///
    /// Source: Liu et al. 2024, "Training-Free Activation Sparsity in Large Language Models",
    /// section 4.2; there the parts of a block are tried together.
    pub fn measure<B: LmBackend>(
        model: &QuantizedGlm<B>,
        config: &GlmConfig,
        statistics: &ActivationStatistics,
        tokens: &[u32],
        progress: &ProgressSink,
    ) -> Result<Self, Error> {
        let thresholds = LEVELS.map(|level| {
            let level = f64::from(level);
            statistics.thresholds(level, |name| sparsity_in_blocks(name, level))
        });
        let thresholds: Vec<Thresholds> = thresholds.into_iter().collect::<Result<_, _>>()?;
        let total = (model.layers.len() * (1 + PARTS.len() * LEVELS.len())) as u64;
        let mut done = 0;
        let mut on_run = || {
            done += 1;
            progress.working("measuring blocks", done, total)
        };
        let mut hidden = model.embed_tokens.forward(tokens);
        let mut blocks = Vec::new();
        for layer in 0..model.layers.len() {
            let block = alone(model, vec![model.layers[layer].clone()], hidden);
            let dense = run_alone(&block, config)?;
            on_run()?;
            let [_, d] = dense.dims();
            let expected: Vec<f32> = dense.to_data().iter::<f32>().collect();
            let mut parts = Vec::new();
            for names in PARTS {
                let mut parameters = 0;
                let mut points = Vec::new();
                for (level, thresholds) in LEVELS.into_iter().zip(&thresholds) {
                    let (sparse, counted) = with_one_part(&block, layer, names, thresholds)?;
                    let output = run_alone(&sparse, config)?.into_data();
                    let actual: Vec<f32> = output.iter::<f32>().collect();
                    points.push((level, relative_error(&actual, &expected, d)));
                    parameters = counted;
                    on_run()?;
                }
                let curve = ErrorCurve::new(points).map_err(|source| {
                    let name = projection(layer, &names.join(", "));
                    SparseModelError::Block { name, source }
                })?;
                parts.push(Part { parameters, curve });
            }
            blocks.push(parts);
            hidden = dense;
        }
        Ok(Self { blocks })
    }

    /// The sparsity of each projection, by name, so that `target` of the parameters of each block are
    /// inactive and the errors of its parts, taken as adding up, are least.
    ///
    /// # Errors
    /// Where `target` is not between 0 and 1.
    pub fn allocate_per_block(&self, target: f64) -> Result<BTreeMap<String, f64>, SparsityError> {
        self.allocate(target, 1)
    }

    /// As [`Self::allocate_per_block`], with blocks that may differ: `target` is of all of them.
    ///
    /// # Errors
    /// Where `target` is not between 0 and 1.
    pub fn allocate_over_all(&self, target: f64) -> Result<BTreeMap<String, f64>, SparsityError> {
        self.allocate(target, self.blocks.len().max(1))
    }

    /// Shares `target` out among `together` blocks at a time.
    fn allocate(
        &self,
        target: f64,
        together: usize,
    ) -> Result<BTreeMap<String, f64>, SparsityError> {
        let mut sparsities = BTreeMap::new();
        for (group, blocks) in self.blocks.chunks(together).enumerate() {
            let parts: Vec<&Part> = blocks.iter().flatten().collect();
            let parameters: Vec<usize> = parts.iter().map(|part| part.parameters).collect();
            let error = |tried: &[f32]| {
                Ok(parts.iter().zip(tried).map(|(part, &sparsity)| part.curve.at(sparsity)).sum())
            };
            let step = STEP / blocks.len() as f32;
            let found = allocate(&parameters, target as f32, step, error)?;
            for (index, sparsity) in found.into_iter().enumerate() {
                let layer = group * together + index / PARTS.len();
                for name in PARTS[index % PARTS.len()] {
                    sparsities.insert(projection(layer, name), f64::from(sparsity));
                }
            }
        }
        Ok(sparsities)
    }
}

/// A projection's name.
fn projection(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// `block` (of layer `layer`) with `thresholds` before the projections `names`, and how many
/// parameters those have.
#[expect(clippy::type_complexity, reason = "a block, whose projections have masks")]
fn with_one_part<B: LmBackend>(
    block: &AloneGlm<B, QuantizedLinear<B>>,
    layer: usize,
    names: &[&str],
    thresholds: &Thresholds,
) -> Result<(AloneGlm<B, SparseLinear<B, QuantizedLinear<B>, Magnitude>>, usize), SparsityError> {
    let thresholds: BTreeMap<String, f32> = names
        .iter()
        // The only block of its model is the first.
        .map(|name| Ok((projection(0, name), thresholds.get(&projection(layer, name))?)))
        .collect::<Result<_, SparsityError>>()?;
    let mut parameters = 0;
    let sparse = block.clone().map_linears(|name: &str, linear: QuantizedLinear<B>| {
        let threshold = thresholds.get(name).copied();
        let [n, k] = linear.shape();
        parameters += threshold.map_or(0, |_| n * k);
        SparseLinear::new(linear, Magnitude { threshold: threshold.unwrap_or(0.0) })
    });
    Ok((sparse, parameters))
}

/// Mean over the rows, `d` wide, of `|actual - expected|^2 / |expected|^2`.
fn relative_error(actual: &[f32], expected: &[f32], d: usize) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let rows = expected.len() / d;
    let of_row = |(actual, expected): (&[f32], &[f32])| {
        let difference: f64 = actual.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
        let norm: f64 = expected.iter().map(|&x| square(x)).sum();
        if difference == 0.0 { 0.0 } else { difference / norm }
    };
    actual.chunks_exact(d).zip(expected.chunks_exact(d)).map(of_row).sum::<f64>() / rows as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Tensor;
    use burn_flex::{Flex, FlexDevice};
    use lightglm_core::{KvDtype, KvShape, LogitRows, SequenceId, Span, WeightDtype};
    use lightglm_generation::ContiguousKvCache;
    use lightglm_model::decoder::Site;
    use lightglm_model::weights::SeededWeights;
    use lightglm_quant::{Policy, Scheme};

    use super::*;
    use crate::model::quantize_source;

    fn values(x: &Tensor<Flex, 2>) -> Vec<f32> {
        x.to_data().iter::<f32>().collect()
    }

    #[test]
    fn a_block_alone_does_what_it_does_in_its_model() {
        let config = GlmConfig::tiny();
        let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
        let (file, policy) = (Path::new("seeded"), Policy::uniform(Scheme::INT8));
        let model = quantize_source::<Flex>(
            &config,
            &weights,
            file,
            &policy,
            &ProgressSink::default(),
            &FlexDevice,
        );
        let model = model.expect("a model").model;
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
        let (shape, dtype) = (KvShape::of(&config), KvDtype::F32);
        let mut cache = ContiguousKvCache::new(shape, 1, 8, dtype, &FlexDevice);
        let mut expected = Vec::new();
        let mut observer = |site, value: &Tensor<Flex, 2>| {
            if matches!(site, Site::Embed | Site::Layer(_)) {
                expected.push(value.clone());
            }
        };
        let span = Span::text(SequenceId(0), &tokens, LogitRows::None);
        model.forward_with_hook(&[span], &mut cache, &mut observer).expect("fine");
        for layer in 0..config.num_hidden_layers {
            let block = alone(&model, vec![model.layers[layer].clone()], expected[layer].clone());
            let output = run_alone(&block, &config).expect("fine");
            assert_eq!(values(&output), values(&expected[layer + 1]), "layer {layer}");
        }
    }

    #[test]
    fn errors_are_relative_to_each_row() {
        let (expected, actual) = ([3.0, 4.0, 0.0, 10.0], [3.0, 3.0, 1.0, 10.0]);
        let error = relative_error(&actual, &expected, 2);
        assert!((error - (1.0 / 25.0 + 1.0 / 100.0) / 2.0).abs() < 1e-12, "{error}");
        assert_eq!(relative_error(&[0.0; 4], &[0.0; 4], 2), 0.0);
    }
}
