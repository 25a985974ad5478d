//! The contiguous cache keeps the seam's promises, and its own.

use burn::tensor::DType;
use burn_flex::Flex;
use lightglm_core::{KvCache, KvCacheError, KvLayer, SequenceId};
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_testkit::{TableLm, check_causal_lm, check_kv_cache};

fn cache(sequences: usize, positions: usize, dtype: KvDtype) -> ContiguousKvCache<Flex> {
    let shape = KvShape { layers: 2, key_value_heads: 2, head_dim: 4 };
    ContiguousKvCache::new(shape, sequences, positions, dtype, &Default::default())
}

#[test]
fn conforms_in_every_dtype() {
    for dtype in KvDtype::ALL {
        check_kv_cache(|sequences, positions| cache(sequences, positions, dtype));
    }
}

#[test]
fn serves_a_model_in_every_dtype() {
    for dtype in KvDtype::ALL {
        let model = TableLm::<Flex>::new(300, 6, 9, &Default::default());
        check_causal_lm::<Flex>(&model, |s, p| Box::new(cache(s, p, dtype)));
    }
}

#[test]
fn counts_bytes_and_positions() {
    let mut cache = cache(2, 20, KvDtype::Bf16);
    assert_eq!(cache.bytes_per_position(), 2 * 2 * 2 * 4 * 2);
    assert_eq!(cache.max_positions(), 20);
    // Exactly as long as asked for, although the last block has room for more.
    let second = SequenceId(1);
    let full = |requested| Err(KvCacheError::Full { requested, available: 20 });
    assert_eq!(cache.reserve(second, 21), full(21));
    cache.reserve(second, 20).unwrap();
    assert_eq!(cache.advance(second, 21), full(21));
    cache.advance(second, 20).unwrap();
    assert_eq!(cache.sequence(second), Ok((&[2, 3][..], 20)));
    let KvLayer::Float(layer) = cache.layer_mut(1) else { panic!("bf16 is a float") };
    assert_eq!(layer.values.dtype(), DType::BF16);
}

#[test]
fn counts_codes_and_scales() {
    for dtype in [KvDtype::Int8, KvDtype::Int8Rotated] {
        assert_eq!(cache(1, 20, dtype).bytes_per_position(), 2 * 2 * 2 * (4 + 4));
        assert_eq!(dtype.bytes_per_head(64), 64 + 4);
        assert_eq!(dtype.bytes_per_head(65), 68 + 4);
    }
}

#[test]
fn truncates_and_clears() {
    let mut cache = cache(2, 40, KvDtype::F32);
    let first = SequenceId(0);
    cache.reserve(first, 33).unwrap();
    cache.advance(first, 33).unwrap();
    cache.truncate(first, 99).unwrap();
    assert_eq!(cache.sequence(first), Ok((&[0, 1, 2][..], 33)));
    cache.truncate(first, 16).unwrap();
    assert_eq!(cache.sequence(first), Ok((&[0][..], 16)));
    cache.clear(first).unwrap();
    assert_eq!(cache.sequence(first), Ok((&[][..], 0)));
    let unknown = SequenceId(2);
    assert_eq!(cache.clear(unknown), Err(KvCacheError::UnknownSequence(unknown)));
}

#[test]
fn dtypes_are_spelt_as_they_are_parsed() {
    for dtype in KvDtype::ALL {
        assert_eq!(dtype.to_string().parse(), Ok(dtype));
    }
    assert_eq!("int8".parse(), Ok(KvDtype::Int8));
    assert!("int4".parse::<KvDtype>().is_err());
}
