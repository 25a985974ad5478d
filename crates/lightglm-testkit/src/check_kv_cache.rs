//! The promises of [`KvCache`].

use std::collections::HashSet;

use burn::tensor::{DType, backend::Backend};
use lightglm_core::{FloatKvLayer, KV_BLOCK, KvCache, KvCacheError, KvLayer, SequenceId};

/// Checks a cache made by `factory(sequences, positions)`: it must have the sequences `0..sequences`,
/// all empty, with room for `positions` positions each, and pools for at least two layers.
///
/// # Panics
/// Where a promise is broken.
pub fn check_kv_cache<B: Backend, C: KvCache<B>>(factory: impl Fn(usize, usize) -> C) {
    fresh_cache_is_empty(&mut factory(2, 40));
    growth_keeps_blocks_and_shares_none(&mut factory(3, 70));
    refusals_change_nothing(&mut factory(2, 40));
    pools_have_the_layout_and_keep_what_is_written(&mut factory(2, 40));
}

fn held<B: Backend>(cache: &dyn KvCache<B>, sequence: usize) -> (Vec<u32>, usize) {
    let (table, len) = cache
        .sequence(SequenceId(sequence))
        .unwrap_or_else(|error| panic!("sequence {sequence} should be there: {error}"));
    (table.to_vec(), len)
}

fn fresh_cache_is_empty<B: Backend>(cache: &mut dyn KvCache<B>) {
    for sequence in 0..2 {
        assert_eq!(held(cache, sequence).1, 0, "a fresh sequence holds positions");
    }
    let unknown = SequenceId(usize::MAX);
    let expected = Err(KvCacheError::UnknownSequence(unknown));
    assert_eq!(cache.sequence(unknown).map(|_| ()), expected, "sequence() of an unknown one");
    assert_eq!(cache.reserve(unknown, 1), expected, "reserve() for an unknown sequence");
    assert_eq!(cache.advance(unknown, 0), expected, "advance() of an unknown sequence");
}

fn growth_keeps_blocks_and_shares_none<B: Backend>(cache: &mut dyn KvCache<B>) {
    let steps = [1, 14, 1, 1, 16, 0, 31, 6];
    for (step, added) in steps.into_iter().enumerate() {
        for sequence in 0..3 {
            // Sequences grow apart, so that their blocks interleave.
            let added = if (step + sequence) % 3 == 2 { 0 } else { added };
            let (before, len) = held(cache, sequence);
            cache.reserve(SequenceId(sequence), added).expect("there is room");
            let (table, unchanged) = held(cache, sequence);
            assert_eq!(unchanged, len, "reserve() must not count positions as held");
            assert!(table.len() * KV_BLOCK >= len + added, "the table is too short");
            assert!(table.starts_with(&before), "blocks in use moved");
            cache.advance(SequenceId(sequence), added).expect("it was reserved");
            assert_eq!(held(cache, sequence).1, len + added, "advance() miscounts");
        }
    }
    let blocks = cache.layer_mut(0).blocks();
    let mut seen = HashSet::new();
    for sequence in 0..3 {
        for block in held(cache, sequence).0 {
            assert!((block as usize) < blocks, "block {block} is outside of the pool of {blocks}");
            assert!(seen.insert(block), "block {block} belongs to two places");
        }
    }
}

fn refusals_change_nothing<B: Backend>(cache: &mut dyn KvCache<B>) {
    let sequence = SequenceId(1);
    cache.reserve(sequence, 20).expect("there is room");
    cache.advance(sequence, 20).expect("it was reserved");
    let before = held(cache, 1);
    for additional in [1 << 24, usize::MAX - 20, usize::MAX] {
        let refused = cache.reserve(sequence, additional);
        let full = matches!(refused, Err(KvCacheError::Full { .. }));
        assert!(full, "reserving {additional} positions gave {refused:?}");
        assert_eq!(held(cache, 1), before, "a refused reserve() changed the sequence");
    }
    let room = before.0.len() * KV_BLOCK - before.1;
    for added in [room + 1, usize::MAX] {
        let refused = cache.advance(sequence, added);
        let full = matches!(refused, Err(KvCacheError::Full { .. }));
        assert!(full, "advancing by {added}, more than was reserved, gave {refused:?}");
        assert_eq!(held(cache, 1), before, "a refused advance() changed the sequence");
    }
    cache.reserve(sequence, 20).expect("a refusal must not use up room");
    cache.reserve(SequenceId(0), 40).expect("a refusal must not use up the others' room");
}

fn pools_have_the_layout_and_keep_what_is_written<B: Backend>(cache: &mut dyn KvCache<B>) {
    cache.reserve(SequenceId(0), 40).expect("there is room");
    let elements = check_layout(cache.layer_mut(0));
    let other = sums(cache.layer_mut(1));
    fill_with_ones(cache.layer_mut(0));
    cache.advance(SequenceId(0), 40).expect("it was reserved");
    assert_eq!(sums(cache.layer_mut(0)), elements, "keys or values were not kept");
    assert_eq!(sums(cache.layer_mut(1)), other, "layers share a pool");
}

/// Checks shapes and dtypes; returns the number of elements of each tensor.
fn check_layout<B: Backend>(layer: &KvLayer<B>) -> Vec<f64> {
    match layer {
        KvLayer::Float(FloatKvLayer { keys, values }) => {
            let [blocks, kv_heads, head_dim, block] = keys.dims();
            assert_eq!(block, KV_BLOCK, "keys are [P, K, d, KV_BLOCK]");
            let expected = [blocks, kv_heads, KV_BLOCK, head_dim];
            assert_eq!(values.dims(), expected, "shape of the values");
            let dtype = keys.dtype();
            let float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
            assert!(float, "keys are {dtype:?}");
            assert_eq!(values.dtype(), dtype, "keys and values differ in dtype");
            vec![(blocks * kv_heads * head_dim * KV_BLOCK) as f64; 2]
        }
        KvLayer::Int8(layer) => {
            let [blocks, kv_heads, steps, block, four] = layer.key_codes.dims();
            assert_eq!([block, four], [KV_BLOCK, 4], "key codes are [P, K, d4 / 4, KV_BLOCK, 4]");
            let expected = [blocks, kv_heads, KV_BLOCK / 4, 4 * steps, 4];
            assert_eq!(layer.value_codes.dims(), expected, "shape of the value codes");
            for codes in [&layer.key_codes, &layer.value_codes] {
                assert_eq!(codes.dtype(), DType::I8, "dtype of the codes");
            }
            for scales in [&layer.key_scales, &layer.value_scales] {
                assert_eq!(scales.dims(), [blocks, kv_heads, KV_BLOCK], "shape of the scales");
                assert_eq!(scales.dtype(), DType::F32, "dtype of the scales");
            }
            let scales = (blocks * kv_heads * KV_BLOCK) as f64;
            let codes = scales * 4.0 * steps as f64;
            vec![codes, scales, codes, scales]
        }
        KvLayer::Selected(layer) => {
            let bounds = layer.bounds.dims();
            assert_eq!([bounds[0], bounds[2]], [layer.pool.blocks(), 2], "bounds are [P, K, 2, d]");
            check_layout(&layer.pool)
        }
    }
}

fn fill_with_ones<B: Backend>(layer: &mut KvLayer<B>) {
    match layer {
        KvLayer::Float(layer) => {
            layer.keys = layer.keys.ones_like();
            layer.values = layer.values.ones_like();
        }
        KvLayer::Int8(layer) => {
            layer.key_codes = layer.key_codes.ones_like();
            layer.key_scales = layer.key_scales.ones_like();
            layer.value_codes = layer.value_codes.ones_like();
            layer.value_scales = layer.value_scales.ones_like();
        }
        KvLayer::Selected(layer) => fill_with_ones(&mut layer.pool),
    }
}

/// The sum of each tensor.
fn sums<B: Backend>(layer: &KvLayer<B>) -> Vec<f64> {
    let pools = match layer {
        KvLayer::Float(layer) => vec![layer.keys.to_data(), layer.values.to_data()],
        KvLayer::Int8(layer) => vec![
            layer.key_codes.to_data(),
            layer.key_scales.to_data(),
            layer.value_codes.to_data(),
            layer.value_scales.to_data(),
        ],
        KvLayer::Selected(layer) => return sums(&layer.pool),
    };
    pools.iter().map(|pool| pool.iter::<f64>().sum()).collect()
}
