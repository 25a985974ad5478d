//! The paged cache: the seam's promises, and one test for each rule of sharing.

use burn::tensor::{BasicOps, Int, Tensor};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    KV_BLOCK, KvCache, KvCacheError, KvDtype, KvLayer, PageBudget, SelectedKvLayer, SequenceId,
};
use lightglm_serve::kv::{KvUsage, PagedKvCache, ServingCache};
use lightglm_testkit::{TableLm, check_causal_lm, check_kv_cache};

type Cache = PagedKvCache<Flex>;

fn new_cache(blocks: usize) -> Cache {
    Cache::of_dtype(1, [blocks, 1, 4], KvDtype::F32, &FlexDevice)
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
            let shape = [sequences * positions.div_ceil(KV_BLOCK), 2, 5];
            with_sequences(Cache::of_dtype(2, shape, dtype, &FlexDevice), sequences)
        });
        let model = TableLm::<Flex>::new(300, 6, 9, &FlexDevice);
        check_causal_lm::<Flex>(&model, |sequences, positions| {
            let shape = [sequences * positions.div_ceil(KV_BLOCK), 2, 5];
            let cache = Cache::of_dtype(1, shape, dtype, &FlexDevice);
            Box::new(with_sequences(cache, sequences))
        });
    }
    check_kv_cache(|sequences, positions| {
        let shape = [sequences * positions.div_ceil(KV_BLOCK), 2, 5];
        let budget = PageBudget { positions: 16 };
        let cache = Cache::of_dtype_selected(2, shape, KvDtype::Int8, budget, 1, &FlexDevice);
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
    let mut cache = new_cache(4).with_max_positions(40);
    assert_eq!(cache.max_positions(), 40);
    let (first, _) = cache.open(&[], 0);
    let full = |requested, available| Err(KvCacheError::Full { requested, available });
    assert_eq!(cache.reserve(first, 41), full(41, 40));
    extend(&mut cache, first, &tokens(1, 40));
    assert_eq!(cache.reserve(first, 1), full(41, 40));
    assert_eq!(cache.advance(first, 1), full(41, 40));
    let (second, _) = cache.open(&[], 0);
    assert_eq!(cache.reserve(second, 17), full(17, 16));
    assert_eq!(cache.sequence(second), Ok((&[][..], 0)));
    cache.reserve(second, 16).unwrap();
    assert_eq!(usage(&cache), (4, 0));
    cache.close(first).unwrap();
    cache.reserve(second, 40).unwrap();
    // A found beginning keeps to the limit, too.
    let mut cache = new_cache(4);
    let prompt = tokens(1, 64);
    let (sequence, _) = run(&mut cache, &prompt);
    cache.close(sequence).unwrap();
    assert_eq!(cache.with_max_positions(40).open(&prompt, 0).1, 32);
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
    cache.forget_cached();
    assert_eq!(usage(&cache), (0, 0));
    assert_eq!(cache.open(&tokens(1, 20), 0).1, 0);
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
fn who_goes_on_within_a_findable_block_leaves_it_as_it_is() {
    let prompt = tokens(1, 48);
    // Nobody else's and a leaf: it ceases to be findable, and no block is needed.
    let mut cache = new_cache(3);
    let (sequence, _) = run(&mut cache, &prompt);
    let before = table(&cache, sequence);
    cache.truncate(sequence, 40).unwrap();
    let full = KvCacheError::Full { requested: 41, available: 40 };
    assert_eq!(cache.advance(sequence, 1), Err(full), "written without being reserved");
    cache.reserve(sequence, 8).unwrap();
    cache.advance(sequence, 8).unwrap();
    assert_eq!(table(&cache, sequence), before);
    assert_eq!(cache.open(&tokens(1, 49), 0).1, 32);

    // Continued by another: a copy, and the original stays.
    let mut cache = new_cache(4);
    let (sequence, _) = run(&mut cache, &prompt);
    let before = table(&cache, sequence);
    cache.truncate(sequence, 20).unwrap();
    cache.reserve(sequence, 1).unwrap();
    cache.advance(sequence, 1).unwrap();
    let after = table(&cache, sequence);
    assert_eq!((after[0], after.len()), (before[0], 2));
    assert!(!before.contains(&after[1]));
    assert_eq!(usage(&cache), (2, 2));

    // Held by another, too, and no block left: full.
    let mut cache = new_cache(3);
    let (sequence, _) = run(&mut cache, &prompt);
    let (other, cached) = cache.open(&tokens(1, 49), 0);
    assert_eq!(cached, 48);
    cache.truncate(sequence, 40).unwrap();
    let full = KvCacheError::Full { requested: 41, available: 40 };
    assert_eq!(cache.reserve(sequence, 1), Err(full));
    assert_eq!(table(&cache, sequence), table(&cache, other));
    cache.close(other).unwrap();
    cache.reserve(sequence, 1).unwrap();

    // Continued by what has to be evicted for the copy, whereupon none is needed.
    let mut cache = new_cache(3);
    let (sequence, _) = run(&mut cache, &prompt);
    let before = table(&cache, sequence);
    cache.truncate(sequence, 20).unwrap();
    cache.reserve(sequence, 28).unwrap();
    assert_eq!(table(&cache, sequence), before);
    assert_eq!(usage(&cache), (3, 0));
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

#[test]
fn copies_every_tensor_of_every_kind_of_pool() {
    for dtype in [KvDtype::F16, KvDtype::Int8] {
        let make_layer = move |_, blocks| {
            let shape = [blocks, 2, 5];
            let mut pool = KvLayer::<Flex>::zeros(shape, dtype, &FlexDevice);
            number_blocks(&mut pool);
            let budget = PageBudget { positions: 16 };
            let mut layer = SelectedKvLayer::new(pool, shape, budget, &FlexDevice);
            layer.bounds = numbered(&layer.bounds);
            KvLayer::Selected(Box::new(layer))
        };
        let mut cache = Cache::new(2, 4, Box::new(make_layer));
        let (sequence, _) = run(&mut cache, &tokens(1, 48));
        let block = table(&cache, sequence)[1];
        let before = rows(cache.layer_mut(0), block);
        cache.truncate(sequence, 20).unwrap();
        cache.reserve(sequence, 1).unwrap();
        let copy = table(&cache, sequence)[1];
        assert_ne!(copy, block);
        for (block, what) in [(copy, "the copy"), (block, "the original")] {
            assert_eq!(rows(cache.layer_mut(0), block), before, "{what}");
        }
        assert_ne!(rows(cache.layer_mut(0), 3 - copy), before, "blocks are all the same");
    }
}

/// Fills each block of a pool with its number.
fn number_blocks(layer: &mut KvLayer<Flex>) {
    match layer {
        KvLayer::Float(layer) => {
            layer.keys = numbered(&layer.keys);
            layer.values = numbered(&layer.values);
        }
        KvLayer::Int8(layer) => {
            let codes = |like: &Tensor<Flex, 5, Int>| {
                let dtype = like.dtype();
                numbered(&like.clone().float()).int().cast(dtype)
            };
            layer.key_codes = codes(&layer.key_codes);
            layer.value_codes = codes(&layer.value_codes);
            layer.key_scales = numbered(&layer.key_scales);
            layer.value_scales = numbered(&layer.value_scales);
        }
        KvLayer::Selected(layer) => number_blocks(&mut layer.pool),
    }
}

fn numbered<const D: usize>(like: &Tensor<Flex, D>) -> Tensor<Flex, D> {
    let blocks = like.dims()[0];
    let block = |number: usize| like.clone().narrow(0, number, 1).full_like(number as f32);
    Tensor::cat((0..blocks).map(block).collect(), 0)
}

/// What a block holds, tensor by tensor.
fn rows(layer: &KvLayer<Flex>, block: u32) -> Vec<Vec<f32>> {
    fn row<const D: usize, K: BasicOps<Flex>>(pool: &Tensor<Flex, D, K>, block: u32) -> Vec<f32> {
        pool.clone().narrow(0, block as usize, 1).into_data().iter::<f32>().collect()
    }
    match layer {
        KvLayer::Float(layer) => vec![row(&layer.keys, block), row(&layer.values, block)],
        KvLayer::Int8(layer) => vec![
            row(&layer.key_codes, block),
            row(&layer.key_scales, block),
            row(&layer.value_codes, block),
            row(&layer.value_scales, block),
        ],
        KvLayer::Selected(layer) => {
            let mut all = rows(&layer.pool, block);
            all.push(row(&layer.bounds, block));
            all
        }
    }
}
