//! Sharing changes nothing that a model sees: requests in turns over a cache that shares and one that
//! does not.

use burn::tensor::DType;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span};
use lightglm_serve::kv::{PagedKvCache, ServingCache};
use lightglm_testkit::{ShuffledKvCache, SplitMix, TableLm};

use crate::unshared::Unshared;

const BLOCKS: usize = 14;
const VOCABULARY: usize = 50;

/// A request with its sequence in either cache.
struct Running {
    tokens: Vec<u32>,
    held: usize,
    shared: SequenceId,
    alone: SequenceId,
}

/// The bits of the logits after the last of `tokens`.
fn logits(
    model: &TableLm<Flex>,
    cache: &mut dyn ServingCache<Flex>,
    sequence: SequenceId,
    tokens: &[u32],
) -> Option<Vec<u32>> {
    let span = Span::text(sequence, tokens, LogitRows::Last);
    let logits = model.forward(&[span], cache).ok()?;
    Some(logits.into_data().iter::<f32>().map(f32::to_bits).collect())
}

#[test]
fn requests_get_the_logits_that_they_get_without_sharing() {
    let model = TableLm::<Flex>::new(VOCABULARY, 100, 3, &FlexDevice);
    let alone = || ShuffledKvCache::new(1, [64, 1, 4], DType::BF16, 5, &FlexDevice);
    let mut alone = Unshared::new(alone);
    let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 4 };
    let mut cache = PagedKvCache::<Flex>::new(shape, BLOCKS, KvDtype::Bf16, &FlexDevice);
    let mut random = SplitMix::new(11);
    let mut running: Vec<Running> = Vec::new();
    let (mut hits, mut preempted, mut most_cached) = (0, 0, 0);
    for _ in 0..1500 {
        if running.len() < 4 && random.below(3) == 0 {
            let beginning = random.below(3) as u32;
            let mut tokens = vec![beginning; 20 + random.below(30)];
            tokens.extend((0..1 + random.below(6)).map(|_| random.below(VOCABULARY) as u32));
            let (shared, held) = cache.open(&tokens, 0);
            let (single, _) = alone.open(&tokens, 0);
            hits += held;
            if held > 0 {
                logits(&model, &mut alone, single, &tokens[..held]).expect("there is room");
            }
            running.push(Running { tokens, held, shared, alone: single });
        }
        if running.is_empty() {
            continue;
        }
        let pick = random.below(running.len());
        let request = &mut running[pick];
        if request.held == request.tokens.len() {
            request.tokens.push(random.below(VOCABULARY) as u32);
        }
        let until = (request.held + 1 + random.below(24)).min(request.tokens.len());
        // Sometimes a draft that turns out wrong.
        let mut fed = request.tokens[request.held..until].to_vec();
        let right = fed.len();
        fed.extend((0..random.below(4) * random.below(12)).map(|_| 49));
        let Some(actual) = logits(&model, &mut cache, request.shared, &fed) else {
            // Full: it goes back to the queue, as a scheduler would have it.
            let request = running.swap_remove(pick);
            cache.close(request.shared).unwrap();
            alone.close(request.alone).unwrap();
            preempted += 1;
            continue;
        };
        let expected = logits(&model, &mut alone, request.alone, &fed).expect("there is room");
        assert_eq!(actual, expected, "other logits than without sharing");
        request.held += right;
        cache.truncate(request.shared, request.held).unwrap();
        alone.truncate(request.alone, request.held).unwrap();
        cache.publish(request.shared, &request.tokens[..request.held]).unwrap();
        most_cached = most_cached.max(cache.usage().cached);
        if request.tokens.len() > 80 || random.below(20) == 0 {
            let request = running.swap_remove(pick);
            cache.close(request.shared).unwrap();
            alone.close(request.alone).unwrap();
        }
    }
    for request in running {
        cache.close(request.shared).unwrap();
        alone.close(request.alone).unwrap();
    }
    assert_eq!((cache.usage().used, alone.usage().used), (0, 0), "blocks leaked");
    println!("{hits} positions found, {preempted} preempted, {most_cached} blocks cached at most");
    assert!(hits > 1000 && preempted > 10 && most_cached > 3, "too little happened");
}
