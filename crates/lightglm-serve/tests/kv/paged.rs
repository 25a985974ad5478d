//! The paged cache: the seam's promises, and one test for each rule of sharing.

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, KvShape, PageBudget, SelectedKvLayer,
    SequenceId,
};
use lightglm_serve::kv::{KvUsage, PagedKvCache, ServingCache};
use lightglm_testkit::{TableLm, check_causal_lm, check_kv_cache};

type Cache = PagedKvCache<Flex>;

const SHAPE: KvShape = KvShape { layers: 2, key_value_heads: 2, head_dim: 5 };

fn new_cache(blocks: usize) -> Cache {
    let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 4 };
    Cache::new(shape, blocks, KvDtype::F32, &FlexDevice)
}

/// The cache with the sequences `0..sequences`, as the conformance suites want them.
fn with_sequences(mut cache: Cache, sequences: usize) -> Cache {
    for id in 0..sequences {
        assert_eq!(cache.open(&[], 0), (SequenceId(id), 0));
    }
    cache
}

/// Makes the sequence hold as many positions as `tokens` are.
fn extend(cache: &mut Cache, sequence: SequenceId, tokens: &[u32]) {
    let (_, held) = cache.sequence(sequence).unwrap();
    cache.reserve(sequence, tokens.len() - held).unwrap();
    cache.advance(sequence, tokens.len() - held).unwrap();
}

fn run(cache: &mut Cache, tokens: &[u32]) -> (SequenceId, usize) {
    let (sequence, cached) = cache.open(tokens, 0);
    extend(cache, sequence, tokens);
    cache.publish(sequence, tokens).unwrap();
    (sequence, cached)
}

fn table(cache: &Cache, sequence: SequenceId) -> Vec<u32> {
    cache.sequence(sequence).unwrap().0.to_vec()
}

fn usage(cache: &Cache) -> (usize, usize) {
    let KvUsage { used, cached, .. } = cache.usage();
    (used, cached)
}

/// `len` tokens, different for every `seed`, from the first on.
fn tokens(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| seed * 1000 + i).collect()
}

#[test]
fn conforms_in_every_dtype() {
    for dtype in KvDtype::ALL {
        check_kv_cache(|sequences, positions| {
            let blocks = sequences * positions.div_ceil(KV_BLOCK);
            with_sequences(Cache::new(SHAPE, blocks, dtype, &FlexDevice), sequences)
        });
        let model = TableLm::<Flex>::new(300, 6, 9, &FlexDevice);
        check_causal_lm::<Flex>(&model, |sequences, positions| {
            let blocks = sequences * positions.div_ceil(KV_BLOCK);
            let cache = Cache::new(SHAPE.with_layers(1), blocks, dtype, &FlexDevice);
            Box::new(with_sequences(cache, sequences))
        });
    }
    check_kv_cache(|sequences, positions| {
        let blocks = sequences * positions.div_ceil(KV_BLOCK);
        let budget = PageBudget { positions: 16 };
        let mut cache = Cache::new(SHAPE, blocks, KvDtype::Int8, &FlexDevice);
        let pool = cache.layer_mut(1).clone();
        let layer = SelectedKvLayer::new(pool, [blocks, 2, 5], budget, &FlexDevice);
        *cache.layer_mut(1) = KvLayer::Selected(Box::new(layer));
        with_sequences(cache, sequences)
    });
}

#[test]
fn a_found_beginning_is_whole_blocks_and_leaves_a_token_to_compute() {
    let mut cache = new_cache(12);
    let prompt = tokens(1, 40);
    assert_eq!(run(&mut cache, &prompt).1, 0);
    for (len, cached) in [(0, 0), (1, 0), (16, 0), (17, 16), (32, 16), (33, 32), (40, 32)] {
        let (sequence, found) = cache.open(&prompt[..len], 0);
        assert_eq!(found, cached, "{len} tokens");
        assert_eq!(cache.sequence(sequence).unwrap().1, cached);
        cache.close(sequence).unwrap();
    }
    // Neither another salt nor the same tokens elsewhere.
    assert_eq!(cache.open(&prompt, 1).1, 0);
    assert_eq!(cache.open(&prompt[16..], 0).1, 0);
}

#[test]
fn the_first_of_two_with_the_same_contents_keeps_its_block() {
    let mut cache = new_cache(12);
    let prompt = tokens(1, 40);
    let (first, _) = cache.open(&prompt, 0);
    let (second, _) = cache.open(&prompt, 0);
    for sequence in [first, second] {
        extend(&mut cache, sequence, &prompt);
    }
    assert_eq!(usage(&cache), (6, 0));
    let before = table(&cache, first);
    let last = table(&cache, second)[2];
    cache.publish(first, &prompt).unwrap();
    cache.publish(second, &prompt).unwrap();
    assert_eq!(table(&cache, first), before);
    assert_eq!(table(&cache, second), [before[0], before[1], last]);
    assert_eq!(usage(&cache), (4, 0));
    // What continues it is published after the first one's blocks.
    let longer = tokens(1, 48);
    extend(&mut cache, second, &longer);
    cache.publish(second, &longer).unwrap();
    cache.close(first).unwrap();
    cache.close(second).unwrap();
    assert_eq!(usage(&cache), (0, 3));
    assert_eq!(cache.open(&tokens(1, 49), 0).1, 48);
}

#[test]
fn what_was_released_first_goes_first_and_children_before_parents() {
    let mut cache = new_cache(6);
    let [old, new] = [1, 2].map(|seed| {
        let sequence = run(&mut cache, &tokens(seed, 48)).0;
        (sequence, table(&cache, sequence))
    });
    cache.close(old.0).unwrap();
    cache.close(new.0).unwrap();
    assert_eq!(usage(&cache), (0, 6));
    // A hit makes a prefix the newest.
    let (again, cached) = cache.open(&tokens(1, 33), 0);
    assert_eq!(cached, 32);
    cache.close(again).unwrap();
    let (sequence, _) = cache.open(&[], 0);
    for expected in [old.1[2], new.1[2], new.1[1], new.1[0], old.1[1], old.1[0]] {
        let held = cache.sequence(sequence).unwrap().1;
        cache.reserve(sequence, KV_BLOCK).unwrap();
        cache.advance(sequence, KV_BLOCK).unwrap();
        assert_eq!(table(&cache, sequence)[held / KV_BLOCK], expected);
    }
    assert_eq!(usage(&cache), (6, 0));
    assert_eq!(cache.open(&tokens(1, 48), 0).1, 0);
}

#[test]
fn a_full_cache_says_so_and_changes_nothing() {
    let mut cache = new_cache(4);
    let (first, _) = cache.open(&[], 0);
    let full = |requested, available| Err(KvCacheError::Full { requested, available });
    assert_eq!(cache.reserve(first, 65), full(65, 64));
    extend(&mut cache, first, &tokens(1, 40));
    assert_eq!(cache.reserve(first, 25), full(65, 64));
    assert_eq!(cache.advance(first, 9), full(49, 48));
    let (second, _) = cache.open(&[], 0);
    assert_eq!(cache.reserve(second, 17), full(17, 16));
    assert_eq!(cache.sequence(second), Ok((&[][..], 0)));
    cache.reserve(second, 16).unwrap();
    assert_eq!(usage(&cache), (4, 0));
    cache.close(first).unwrap();
    cache.reserve(second, 64).unwrap();
}

#[test]
fn a_closed_sequence_is_unknown_for_ever() {
    let mut cache = new_cache(4);
    let (closed, _) = run(&mut cache, &tokens(1, 20));
    cache.close(closed).unwrap();
    let (open, _) = cache.open(&tokens(1, 20), 0);
    assert_ne!(open, closed);
    let unknown = Err(KvCacheError::UnknownSequence(closed));
    assert_eq!(cache.close(closed), unknown);
    assert_eq!(cache.publish(closed, &[]), unknown);
    assert_eq!(cache.truncate(closed, 0), unknown);
    assert_eq!(cache.reserve(closed, 1), unknown);
    assert_eq!(cache.advance(closed, 0), unknown);
    assert_eq!(cache.sequence(closed).map(|_| ()), unknown);
    assert_eq!(usage(&cache), (1, 0));
}

#[test]
fn what_was_reserved_in_vain_stays_until_it_is_closed() {
    let mut cache = new_cache(4);
    let (sequence, _) = run(&mut cache, &tokens(1, 20));
    cache.reserve(sequence, 30).unwrap();
    assert_eq!(usage(&cache), (4, 0));
    assert_eq!(cache.sequence(sequence).unwrap().1, 20);
    cache.reserve(sequence, 1).unwrap();
    assert_eq!(usage(&cache), (4, 0));
    cache.close(sequence).unwrap();
    assert_eq!(usage(&cache), (0, 1));
}

#[test]
fn publishes_what_is_held_and_told_and_no_more() {
    let mut cache = new_cache(4);
    let prompt = tokens(1, 60);
    let (sequence, _) = cache.open(&prompt, 0);
    extend(&mut cache, sequence, &prompt[..40]);
    cache.publish(sequence, &prompt[..31]).unwrap();
    assert_eq!(cache.open(&prompt, 0).1, 16);
    cache.publish(sequence, &prompt).unwrap();
    assert_eq!(cache.open(&prompt, 0).1, 32);
}

#[test]
fn what_is_published_stays() {
    let mut cache = new_cache(6);
    let prompt = tokens(1, 48);
    let (first, _) = cache.open(&prompt, 0);
    extend(&mut cache, first, &prompt);
    cache.publish(first, &prompt[..40]).unwrap();
    // What was found is published as much as what one has published oneself.
    let (second, cached) = cache.open(&prompt, 0);
    assert_eq!(cached, 32);
    extend(&mut cache, second, &prompt);
    assert_eq!(usage(&cache), (4, 0));
    for sequence in [first, second] {
        let before = table(&cache, sequence);
        for requested in [0, 16, 31] {
            let refused = cache.truncate(sequence, requested);
            assert_eq!(refused, Err(KvCacheError::Published { requested, published: 32 }));
            assert_eq!(cache.sequence(sequence), Ok((&before[..], 48)));
        }
        // What goes on behind it is the sequence's own.
        cache.truncate(sequence, 33).unwrap();
        assert_eq!(cache.sequence(sequence), Ok((&before[..], 33)));
        cache.truncate(sequence, 32).unwrap();
        assert_eq!(cache.sequence(sequence), Ok((&before[..2], 32)));
    }
    assert_eq!(usage(&cache), (2, 0));
}

#[test]
fn a_reset_forgets_all() {
    let mut cache = new_cache(4);
    let (sequence, _) = run(&mut cache, &tokens(1, 40));
    let KvLayer::Float(layer) = cache.layer_mut(0) else { panic!("f32 is a float") };
    layer.keys = layer.keys.ones_like();
    cache.reset();
    assert_eq!(usage(&cache), (0, 0));
    assert_eq!(cache.close(sequence), Err(KvCacheError::UnknownSequence(sequence)));
    let (next, cached) = cache.open(&tokens(1, 40), 0);
    assert_ne!(next, sequence);
    assert_eq!(cached, 0);
    let KvLayer::Float(layer) = cache.layer_mut(0) else { panic!("f32 is a float") };
    assert_eq!(layer.keys.clone().sum().into_scalar(), 0.0);
}
