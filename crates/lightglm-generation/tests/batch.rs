//! Batched generation gives every sequence what it would get alone.

mod table_generation;

use std::num::NonZeroUsize;

use burn::tensor::DType;
use lightglm_core::{KvCache, KvCacheError, LmError, SequenceId};
use lightglm_generation::{
    CancelToken, FinishReason, Generation, GenerationError, Generator, SamplingParams, Step,
    generate_batch,
};
use lightglm_testkit::{ShuffledKvCache, SplitMix, TableLm};
use proptest::prelude::*;
use table_generation::{B, Request, VOCAB, cache, collect, generate, model, request, sampled};

#[test]
fn a_bad_request_is_its_own_error() {
    let mut cache = cache(4, 40);
    let model = model();
    let params = SamplingParams { max_tokens: 10, ..sampled(1) };
    let requests = vec![
        request(0, &[1, 2, 3], params.clone()),
        request(1, &[1; 50], params.clone()),
        request(2, &[1, 500], params.clone()),
        request(3, &[], params.clone()),
        request(0, &[7], params.clone()),
        request(9, &[7], params.clone()),
    ];
    let chunk = NonZeroUsize::new(64).unwrap();
    let results = generate_batch(&model, &mut cache, requests, chunk, &mut |_, _| ());
    assert_eq!(results[0], Ok(generate(&model, &[1, 2, 3], params)));
    let lm = |error: LmError| Err(GenerationError::Model(error));
    assert_eq!(results[1], lm(LmError::Cache(KvCacheError::Full { requested: 50, available: 40 })));
    assert_eq!(results[2], lm(LmError::TokenOutOfRange { token: 500, vocab_size: VOCAB }));
    assert_eq!(results[3], Err(GenerationError::EmptyPrompt));
    assert_eq!(results[4], lm(LmError::RepeatedSequence(SequenceId(0))));
    assert_eq!(results[5], lm(LmError::Cache(KvCacheError::UnknownSequence(SequenceId(9)))));
}

#[test]
fn one_of_two_is_cancelled() {
    let (model, cancel) = (model(), CancelToken::new());
    let mut cache = cache(2, 64);
    let params = SamplingParams { ignore_eos: true, max_tokens: 20, ..Default::default() };
    let requests = vec![
        request(0, &[1, 2], params.clone()).with_cancel(cancel.clone()),
        request(1, &[3], params),
    ];
    let mut first = 0;
    let mut on_step = |index: usize, step: &Step| {
        first += usize::from(index == 0 && step.token.is_some());
        if first == 5 {
            cancel.cancel();
        }
    };
    let chunk = NonZeroUsize::new(8).unwrap();
    let results = generate_batch(&model, &mut cache, requests, chunk, &mut on_step);
    let ends: Vec<_> = results.iter().flatten().map(|r| (r.tokens.len(), r.finish)).collect();
    assert_eq!(ends, [(5, FinishReason::Cancelled), (20, FinishReason::Length)]);
}

/// Positions a sequence has room for; some sequences end because of it.
const ROOM: usize = 80;

fn requests(seed: u64, lengths: &[usize]) -> Vec<Request> {
    let mut random = SplitMix::new(seed);
    let one = |(sequence, &len): (usize, &usize)| {
        let prompt: Vec<u32> = (0..len).map(|_| random.below(VOCAB) as u32).collect();
        let params = SamplingParams {
            temperature: [0.0, 0.7, 2.0][sequence % 3],
            top_p: [1.0, 0.8][sequence % 2],
            top_k: [0, 30][sequence % 2],
            frequency_penalty: 0.2,
            seed: random.next_u64(),
            max_tokens: 1 + random.below(60),
            stop: vec!["a".into(), "bc".into()],
            logprobs: Some(1),
            ..Default::default()
        };
        request(sequence, &prompt, params)
    };
    lengths.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_batch_is_its_sequences_one_by_one(
        seed in any::<u64>(),
        lengths in prop::collection::vec(1usize..50, 1..6),
        chunk in 1usize..80,
    ) {
        let model = TableLm::<B>::new(VOCAB, 3, seed, &Default::default());
        let requests = requests(seed, &lengths);
        let count = lengths.len();
        let alone: Vec<Generation> = requests.iter().map(|request| {
            let mut cache = cache(count, ROOM);
            let generator = Generator::new(&model, &mut cache, request.clone()).unwrap();
            collect(generator.map(Result::unwrap).collect())
        }).collect();
        let mut contiguous = cache(count, ROOM);
        let pool = [count * 8, 1, 4];
        let mut shuffled =
            ShuffledKvCache::new(1, pool, DType::F32, seed, &Default::default())
                .with_sequences(count);
        let caches: [&mut dyn KvCache<B>; 2] = [&mut contiguous, &mut shuffled];
        for (which, cache) in caches.into_iter().enumerate() {
            let mut streamed = vec![String::new(); count];
            let mut on_step = |index: usize, step: &Step| streamed[index] += &step.text;
            let chunk = NonZeroUsize::new(chunk).unwrap();
            let batch = generate_batch(&model, cache, requests.clone(), chunk, &mut on_step);
            for (index, (result, alone)) in batch.into_iter().zip(&alone).enumerate() {
                let result = result.unwrap();
                // The shuffled cache has more room: what ends for want of it alone goes on there.
                if which == 0 || alone.tokens.len() + lengths[index] <= ROOM {
                    prop_assert_eq!(&result, alone);
                }
                prop_assert_eq!(&streamed[index], &result.text);
            }
        }
    }
}
