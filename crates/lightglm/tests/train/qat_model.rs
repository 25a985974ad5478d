//! Quantization-aware training of a whole model: prepare, train, convert.

use std::path::Path;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm::generic::QuantizedGlm;
use lightglm_core::{CausalLm, GradientSums, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseEmbedding, DenseGlm, DenseLinear, Glm, LoadPrecision, SwiGlu};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::Policy;
use lightglm_quant::qat::{Convert, FakeQuantEmbedding, FakeQuantLinear, Prepare, ScaleSource};

type Train = Autodiff<Flex>;
type FakeLinear<B> = FakeQuantLinear<B, DenseLinear<B>>;
type FakeGlm<B> = Glm<B, FakeLinear<B>, SwiGlu<B, FakeLinear<B>>, FakeQuantEmbedding<B>>;

const TOKENS: [u32; 24] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4];

/// The schemes that the training guide speaks of.
const SCHEMES: [&str; 6] = ["w8a8", "int8", "int4", "w4a8-g128", "int4wo-g128", "int8wo"];

/// Of the largest logit. Weights are the same to the bit and sums of eight-bit codes are exact; what
/// is left is f32 sums in another order, and activations of 16 bits (a 65024th of a group's range)
/// that training does not round. Measured: up to 5e-7 where all activations have 8 bits (`w8a8`), up
/// to 1.2e-4 where those of the head or of all projections have 16.
const CONVERTED: f32 = 2e-4;

/// Of the largest logit: where a sum in another order moves an activation across the boundary of two
/// eight-bit codes, a 127th of a group's range goes along. No error of either side, and rare.
/// Measured: 4e-3, in one of the 24 comparisons.
const CODES_APART: f32 = 1e-2;

/// Of the comparisons, how many such a step may be met in.
const MOST_APART: usize = 4;

fn dense<B: LmBackend>(config: &GlmConfig) -> DenseGlm<B> {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 5);
    let file = Path::new("seeded");
    DenseGlm::load(config, &weights, file, LoadPrecision::Stored, &B::Device::default()).unwrap()
}

fn prepared<B: LmBackend>(config: &GlmConfig, mut prepare: Prepare<'_>) -> FakeGlm<B> {
    let model = dense::<B>(config);
    let model = model.try_map_linears(|name, linear: DenseLinear<B>| prepare.linear(name, linear));
    let model = model.unwrap().try_map_embedding(|table: DenseEmbedding<B>| {
        prepare.embedding("model.embed_tokens", table.weight)
    });
    prepare.finish().unwrap();
    model.unwrap()
}

fn converted(model: FakeGlm<Flex>) -> QuantizedGlm<Flex> {
    let mut convert = Convert::new();
    let model =
        model.try_map_linears(|name, linear: FakeLinear<Flex>| convert.linear(name, &linear));
    let model = model.unwrap().try_map_embedding(|table: FakeQuantEmbedding<Flex>| {
        convert.embedding("model.embed_tokens", &table)
    });
    model.unwrap()
}

fn span() -> Span<'static> {
    Span::text(SequenceId(0), &TOKENS, LogitRows::All)
}

fn values<B: LmBackend>(logits: Tensor<B, 2>) -> Vec<f32> {
    logits.into_data().into_vec().unwrap()
}

/// The largest difference over the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0.0f32, |max, b| max.max(b.abs()));
    a.iter().zip(b).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

/// Plain gradient descent.
struct Descend {
    gradients: GradientSums<Train>,
    rate: f32,
    moved: usize,
}

impl ModuleMapper<Train> for Descend {
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Train, D>>,
    ) -> Param<Tensor<Train, D>> {
        let gradient = self.gradients.take(param.id).expect("every parameter has a gradient");
        self.moved += 1;
        let (id, tensor, mapper) = param.consume();
        let tensor = tensor.inner();
        let gradient = gradient.reshape(tensor.shape());
        let tensor = Tensor::from_inner(tensor - gradient * self.rate).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// One step towards smaller logits.
fn step(model: FakeGlm<Train>, rate: f32) -> FakeGlm<Train> {
    let logits = model.forward_uncached(&[span()]).unwrap();
    let mut gradients = (logits.clone() * logits).mean().backward();
    let mut sums = GradientSums::new();
    sums.collect(&model, &mut gradients);
    let mut descend = Descend { gradients: sums, rate, moved: 0 };
    let model = model.map(&mut descend);
    assert!(descend.moved > 10 && descend.gradients.is_empty());
    model
}

#[test]
fn converted_models_compute_what_was_trained() {
    let mut apart = 0;
    for tied in [false, true] {
        let config = GlmConfig { tie_word_embeddings: tied, ..GlmConfig::tiny() };
        let plain = values(dense::<Flex>(&config).forward_uncached(&[span()]).unwrap());
        for scheme in SCHEMES {
            for scales in [ScaleSource::Observed, ScaleSource::Learned] {
                let policy: Policy = scheme.parse().unwrap();
                let prepare = Prepare::new(&policy).with_scales(scales);
                let mut model = prepared::<Train>(&config, prepare);
                let rate = if scales == ScaleSource::Learned { 1e-4 } else { 1e-2 };
                for _ in 0..2 {
                    model = step(model, rate);
                }
                let trained = values(model.forward_uncached(&[span()]).unwrap());
                let valid = model.valid();
                let fake = values(valid.forward_uncached(&[span()]).unwrap());
                let served = converted(valid);
                let packed = values(served.forward_uncached(&[span()]).unwrap());
                let (a, b) = (difference(&fake, &packed), difference(&trained, &packed));
                let moved = difference(&plain, &packed);
                println!(
                    "{scheme} {scales:?} tied {tied}: {a:.1e}, training {b:.1e}, moved {moved:.1e}"
                );
                let worst = a.max(b);
                let most = if scheme.contains("wo") { CONVERTED } else { CODES_APART };
                assert!(worst <= most, "{scheme} {scales:?}: {worst:e}");
                apart += usize::from(worst > CONVERTED);
                assert!(moved > 2.0 * worst, "{scheme}: nothing was quantized");
            }
        }
    }
    assert!(apart <= MOST_APART, "{apart} comparisons are apart");
}

/// An eight-bit KV cache in training is nearer to the real one than none.
#[test]
fn an_int8_kv_cache_is_simulated() {
    let config = GlmConfig::tiny();
    let policy: Policy = "int8wo".parse().unwrap();
    let logits = |model: &FakeGlm<Flex>, dtype| {
        let shape = KvShape::of(&config);
        let mut cache = ContiguousKvCache::new(shape, 1, 32, dtype, &FlexDevice);
        values(model.forward(&[span()], &mut cache).unwrap())
    };
    let plain = prepared::<Flex>(&config, Prepare::new(&policy));
    let real = logits(&plain, KvDtype::Int8);
    let without = difference(&logits(&plain, KvDtype::F32), &real);
    let prepare = Prepare::new(&policy).with_int8_kv(config.head_dim);
    let simulated = prepared::<Flex>(&config, prepare);
    let with = difference(&logits(&simulated, KvDtype::F32), &real);
    println!("without {without:.1e}, with {with:.1e}");
    // Keys are quantized before their rotation, so something is left: measured, 0.55 of it.
    assert!(with < without, "{with:e} {without:e}");
}
