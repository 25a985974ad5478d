//! A decoder over the paged cache: blocks in any order, shared, evicted and used again give the bits
//! of a contiguous cache.

use std::path::Path;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, FloatKvLayer, Int8KvLayer, KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer,
    KvShape, LmError, LogitRows, PageBudget, SelectedKvLayer, SequenceId, Span, WeightDtype,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_serve::kv::{PagedKvCache, ServingCache};
use lightglm_testkit::SplitMix;

/// Few enough that three requests do not always fit.
const BLOCKS: usize = 9;

type Model = DenseGlm<Flex>;

fn model() -> (GlmConfig, Model) {
    let config = GlmConfig::tiny();
    let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 3);
    let seeded = Path::new("seeded");
    let model = DenseGlm::load(&config, &weights, seeded, LoadPrecision::Stored, &FlexDevice);
    (config, model.expect("seeded weights fit"))
}

/// A layer whose blocks hold what no sequence may ever see.
fn poisoned(shape: [usize; 3], dtype: KvDtype) -> KvLayer<Flex> {
    match KvLayer::zeros(shape, dtype, &FlexDevice) {
        KvLayer::Float(FloatKvLayer { keys, values }) => KvLayer::Float(FloatKvLayer {
            keys: keys.full_like(f32::NAN),
            values: values.full_like(f32::NAN),
        }),
        KvLayer::Int8(layer) => KvLayer::Int8(Int8KvLayer {
            key_codes: layer.key_codes.full_like(-127),
            key_scales: layer.key_scales.full_like(f32::NAN),
            value_codes: layer.value_codes.full_like(-127),
            value_scales: layer.value_scales.full_like(f32::NAN),
            rotate_keys: layer.rotate_keys,
        }),
        selected => selected,
    }
}

/// A paged cache over poisoned pools, its blocks in no order at all.
fn paged(config: &GlmConfig, dtype: KvDtype, budget: Option<PageBudget>) -> PagedKvCache<Flex> {
    let shape = KvShape::of(config);
    let mut cache = PagedKvCache::<Flex>::new(shape, BLOCKS, dtype, &FlexDevice);
    let KvShape { layers, key_value_heads, head_dim } = shape;
    let shape = [BLOCKS, key_value_heads, head_dim];
    for layer in 0..layers {
        let pool = poisoned(shape, dtype);
        *cache.layer_mut(layer) = match budget {
            None => pool,
            Some(budget) => {
                let layer = SelectedKvLayer::new(pool, shape, budget, &FlexDevice);
                let bounds = layer.bounds.full_like(f32::NAN);
                KvLayer::Selected(Box::new(SelectedKvLayer { bounds, ..layer }))
            }
        };
    }
    let mut random = SplitMix::new(1);
    let mut open: Vec<SequenceId> = (0..BLOCKS).map(|_| cache.open(&[], 0).0).collect();
    for &sequence in &open {
        cache.reserve(sequence, 1).expect("a block for each");
    }
    while !open.is_empty() {
        let sequence = open.swap_remove(random.below(open.len()));
        cache.close(sequence).expect("it is open");
    }
    cache
}

fn contiguous(config: &GlmConfig, dtype: KvDtype) -> ContiguousKvCache<Flex> {
    ContiguousKvCache::new(KvShape::of(config), 1, 256, dtype, &FlexDevice)
}

/// The bits of each row.
fn bits(logits: Tensor<Flex, 2>) -> Vec<Vec<u32>> {
    let [_, vocab_size] = logits.dims();
    let flat: Vec<u32> = logits.into_data().iter::<f32>().map(f32::to_bits).collect();
    flat.chunks(vocab_size).map(<[u32]>::to_vec).collect()
}

fn all(sequence: SequenceId, tokens: &[u32]) -> Span<'_> {
    Span::text(sequence, tokens, LogitRows::All)
}

/// A request, and the rows that it would get alone.
struct Request {
    sequence: SequenceId,
    tokens: Vec<u32>,
    held: usize,
    expected: Vec<Vec<u32>>,
}

struct Scene {
    config: GlmConfig,
    model: Model,
    cache: PagedKvCache<Flex>,
    random: SplitMix,
    dtype: KvDtype,
    beginnings: Vec<Vec<u32>>,
    found: usize,
    evicted: usize,
    preempted: usize,
}

impl Scene {
    fn new(dtype: KvDtype) -> Self {
        let (config, model) = model();
        let cache = paged(&config, dtype, None);
        let mut random = SplitMix::new(7);
        let mut tokens = |len| (0..len).map(|_| random.below(320) as u32).collect();
        let beginnings = vec![tokens(36), tokens(48), tokens(20)];
        let (found, evicted, preempted) = (0, 0, 0);
        Self { config, model, cache, random, dtype, beginnings, found, evicted, preempted }
    }

    fn request(&mut self) -> Request {
        let mut tokens = self.beginnings[self.random.below(3)].clone();
        let own = 1 + self.random.below(30);
        tokens.extend((0..own).map(|_| self.random.below(320) as u32));
        let mut alone = contiguous(&self.config, self.dtype);
        let span = all(SequenceId(0), &tokens);
        let expected = bits(self.model.forward(&[span], &mut alone).expect("there is room"));
        let (sequence, held) = self.cache.open(&tokens, 0);
        self.found += held;
        Request { sequence, tokens, held, expected }
    }

    /// A chunk of each; `false` where the cache is full.
    fn step(&mut self, running: &mut [Request]) -> bool {
        let mut chunks = Vec::new();
        for request in running.iter() {
            let left = request.tokens.len() - request.held;
            chunks.push(request.held..request.held + left.min(1 + self.random.below(20)));
        }
        let pairs = || running.iter().zip(&chunks);
        let spans: Vec<Span<'_>> =
            pairs().map(|(r, chunk)| all(r.sequence, &r.tokens[chunk.clone()])).collect();
        let before = self.cache.usage().cached;
        let logits = match self.model.forward(&spans, &mut self.cache) {
            Err(LmError::Cache(KvCacheError::Full { .. })) => return false,
            other => bits(other.expect("a good batch")),
        };
        self.evicted += before.saturating_sub(self.cache.usage().cached);
        let expected: Vec<Vec<u32>> =
            pairs().flat_map(|(r, chunk)| r.expected[chunk.clone()].to_vec()).collect();
        assert!(logits == expected, "{}: other logits than alone", self.dtype);
        for (request, chunk) in running.iter_mut().zip(chunks) {
            request.held = chunk.end;
            let tokens = &request.tokens[..chunk.end];
            self.cache.publish(request.sequence, tokens).expect("it is open");
        }
        true
    }

    fn run(&mut self, requests: usize) {
        let mut running: Vec<Request> = Vec::new();
        let mut begun = 0;
        while begun < requests || !running.is_empty() {
            if running.len() < 3 && begun < requests {
                running.push(self.request());
                begun += 1;
            }
            if !self.step(&mut running) {
                let Request { sequence, .. } = running.pop().expect("one alone fits");
                self.cache.close(sequence).expect("it is open");
                self.preempted += 1;
                continue;
            }
            running.retain(|request| {
                let goes_on = request.held < request.tokens.len();
                if !goes_on {
                    self.cache.close(request.sequence).expect("it is open");
                }
                goes_on
            });
        }
        assert_eq!(self.cache.usage().used, 0, "blocks leaked");
    }
}

#[test]
fn blocks_in_any_order_shared_and_used_again_are_a_contiguous_cache() {
    for dtype in KvDtype::ALL {
        let mut scene = Scene::new(dtype);
        scene.run(60);
        let Scene { found, evicted, preempted, .. } = scene;
        println!(
            "{dtype}: {found} positions found, {evicted} blocks evicted, {preempted} preempted"
        );
        assert!(found > 300 && evicted > 20 && preempted > 2, "too little happened");
    }
}

#[test]
fn wrong_guesses_behind_a_shared_beginning_disturb_nobody() {
    for dtype in KvDtype::ALL {
        let (config, model) = model();
        let mut cache = paged(&config, dtype, None);
        let tokens: Vec<u32> = (0..60).map(|i| i * 5).collect();
        let other: Vec<u32> = tokens[..37].iter().copied().chain(100..120).collect();
        let alone = |tokens: &[u32]| {
            let mut cache = contiguous(&config, dtype);
            bits(model.forward(&[all(SequenceId(0), tokens)], &mut cache).expect("there is room"))
        };
        let (first, _) = cache.open(&tokens, 0);
        model.forward(&[all(first, &tokens[..50])], &mut cache).expect("there is room");
        cache.publish(first, &tokens[..50]).expect("it is open");
        let (second, cached) = cache.open(&other, 0);
        assert_eq!(cached, 2 * KV_BLOCK);
        // Guesses, wrong from the 37th on.
        model.forward(&[all(second, &tokens[cached..58])], &mut cache).expect("there is room");
        cache.truncate(second, 37).expect("it is not published");
        let spans = [all(second, &other[37..]), all(first, &tokens[50..])];
        let rows = bits(model.forward(&spans, &mut cache).expect("there is room"));
        let expected = [&alone(&other)[37..], &alone(&tokens)[50..]].concat();
        assert!(rows == expected, "{dtype}: other logits than alone");
        // And both are found as what they are.
        cache.publish(second, &other).expect("it is open");
        for (tokens, held) in [(&tokens, 48), (&other, 48)] {
            let (third, cached) = cache.open(tokens, 0);
            assert_eq!(cached, held);
            let rows = model.forward(&[all(third, &tokens[held..])], &mut cache);
            assert!(bits(rows.expect("there is room")) == alone(tokens)[held..], "{dtype}");
            cache.close(third).expect("it is open");
        }
    }
}

#[test]
fn a_block_used_again_has_the_bounds_of_its_own_keys() {
    let budget = PageBudget { positions: 2 * KV_BLOCK };
    let (config, model) = model();
    let mut random = SplitMix::new(9);
    for dtype in [KvDtype::F16, KvDtype::Int8Rotated] {
        let mut cache = paged(&config, dtype, Some(budget));
        for salt in 0..6 {
            let tokens: Vec<u32> = (0..110).map(|_| random.below(320) as u32).collect();
            let mut alone = contiguous(&config, dtype).with_page_budget(budget, 0);
            // Another salt for each: nothing is found, and everything is evicted and used again.
            let (sequence, cached) = cache.open(&tokens, salt);
            assert_eq!(cached, 0);
            let (prompt, decoded) = tokens.split_at(90);
            let chunks = std::iter::once(prompt).chain(decoded.chunks(1));
            for chunk in chunks {
                let expected = model.forward(&[all(SequenceId(0), chunk)], &mut alone);
                let actual = model.forward(&[all(sequence, chunk)], &mut cache);
                let [expected, actual] = [expected, actual].map(|l| bits(l.expect("room")));
                assert!(actual == expected, "{dtype}: other pages than in fresh blocks");
            }
            cache.publish(sequence, &tokens).expect("it is open");
            cache.close(sequence).expect("it is open");
        }
    }
}
