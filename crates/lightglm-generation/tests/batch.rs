//! Batched generation gives every request what it would get alone.

mod table_generation;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{DType, Tensor};
use lightglm_core::{
    CausalLm, KV_BLOCK, KvCache, KvCacheError, LmError, LogitRows, SequenceId, Span,
};
use lightglm_generation::batched::{
    BatchError, BatchOptions, BatchSubject, ReplyControl, generate as generate_all,
};
use lightglm_generation::{
    CancelToken, ContiguousKvCache, FinishReason, ForwardError, Generation, GenerationError,
    Generator, LogitsProcessor, ProcessorError, RunControl, SampleError, SamplingError,
    SamplingParams, Step, TokenHistory,
};
use lightglm_testkit::{ShuffledKvCache, SplitMix, TableLm};
use proptest::prelude::*;
use table_generation::{B, Request, VOCAB, cache, collect, generate, model, request, sampled};

type Results = Vec<Result<Generation, GenerationError>>;

fn run(
    model: &dyn CausalLm<B>,
    requests: Vec<Request>,
    options: BatchOptions,
    replies: &mut ReplyControl<'_>,
    control: &mut RunControl<'_>,
) -> Results {
    let mut make_cache = |sequences, positions| Ok(cache(sequences, positions));
    let mut subject = BatchSubject::new(model, &mut make_cache, ContiguousKvCache::truncate);
    generate_all(&mut subject, requests, &options, replies, control).expect("a cache")
}

fn run_all(model: &dyn CausalLm<B>, requests: Vec<Request>, options: BatchOptions) -> Results {
    run(model, requests, options, &mut ReplyControl::default(), &mut RunControl::default())
}

fn refused(error: impl Into<LmError>) -> Result<Generation, GenerationError> {
    Err(GenerationError::Forward(ForwardError::Model(error.into())))
}

#[test]
fn a_bad_request_is_its_own_error() {
    let model = model();
    let params = SamplingParams { max_tokens: 10, ..sampled(1) };
    let unknown = SamplingParams { stop_token_ids: vec![VOCAB as u32], ..params.clone() };
    let none = SamplingParams { max_tokens: 0, ..params.clone() };
    let requests = || {
        vec![
            request(&[1, 2, 3], params.clone()),
            request(&[1; 50], params.clone()),
            request(&[1, 500], params.clone()),
            request(&[], params.clone()),
            request(&[7], unknown.clone()),
            request(&[7], none.clone()),
            request(&[9; 30], params.clone()),
        ]
    };
    for sequences in [1, 2, 8] {
        let options =
            BatchOptions { sequences, max_positions: Some(40), ..BatchOptions::default() };
        let results = run_all(&model, requests(), options);
        assert_eq!(results[0], Ok(generate(&model, &[1, 2, 3], params.clone())));
        assert_eq!(results[1], refused(KvCacheError::Full { requested: 50, available: 40 }));
        let token = LmError::TokenOutOfRange { token: 500, vocab_size: VOCAB };
        assert_eq!(results[2], refused(token));
        assert_eq!(results[3], Err(GenerationError::EmptyPrompt));
        for (index, name) in [(4, "stop_token_ids"), (5, "max_tokens")] {
            assert!(
                matches!(
                    &results[index],
                    Err(GenerationError::Sampling(
                        SamplingError::TokenOutOfRange { field, .. }
                            | SamplingError::OutOfRange { field, .. }
                    )) if *field == name
                ),
                "{:?}",
                results[index]
            );
        }
        assert_eq!(results[6], Ok(generate(&model, &[9; 30], params.clone())));
    }
}

#[test]
fn an_error_ends_the_batch_where_the_caller_says_so() {
    let params = SamplingParams { ignore_eos: true, max_tokens: 20, ..Default::default() };
    let requests = [&[1, 2][..], &[1, 500], &[3]].map(|prompt| request(prompt, params.clone()));
    let mut replies = ReplyControl { stop_at_error: true, ..ReplyControl::default() };
    let options = BatchOptions { sequences: 2, ..BatchOptions::default() };
    let results = run(&model(), requests.into(), options, &mut replies, &mut RunControl::default());
    assert!(results[1].is_err());
    let ends: Vec<_> = results.iter().flatten().map(|r| (r.tokens.len(), r.finish)).collect();
    assert_eq!(ends, [(1, FinishReason::Cancelled), (0, FinishReason::Cancelled)]);
}

#[test]
fn a_cancelled_request_leaves_the_others_alone() {
    let (model, cancel) = (model(), CancelToken::new());
    let params = SamplingParams { ignore_eos: true, max_tokens: 20, ..Default::default() };
    let before = CancelToken::new();
    before.cancel();
    let requests = vec![
        request(&[1, 2], params.clone()).with_cancel(cancel.clone()),
        request(&[3], params.clone()),
        request(&[4], params).with_cancel(before),
    ];
    let mut first = 0;
    let mut on_step = |index: usize, step: &Step| {
        first += usize::from(index == 0 && step.token.is_some());
        if first == 5 {
            cancel.cancel();
        }
    };
    let options = BatchOptions { sequences: 2, ..BatchOptions::default() };
    let mut replies = ReplyControl { on_step: Some(&mut on_step), ..ReplyControl::default() };
    let results = run(&model, requests, options, &mut replies, &mut RunControl::default());
    let ends: Vec<_> = results.iter().flatten().map(|r| (r.tokens.len(), r.finish)).collect();
    let cancelled = |tokens| (tokens, FinishReason::Cancelled);
    assert_eq!(ends, [cancelled(5), (20, FinishReason::Length), cancelled(0)]);
}

#[test]
fn a_raised_stop_flag_ends_what_has_not_ended() {
    let params = SamplingParams { ignore_eos: true, max_tokens: 3, ..Default::default() };
    let requests = (0..6).map(|i| request(&[i + 1], params.clone())).collect();
    let stop = AtomicBool::new(false);
    let mut told = Vec::new();
    let mut progress = |done, total| {
        told.push((done, total));
        stop.store(done >= 3, Ordering::Relaxed);
    };
    let mut control =
        RunControl { progress: Some(&mut progress), stop: Some(&stop), ..RunControl::default() };
    let options = BatchOptions { sequences: 2, ..BatchOptions::default() };
    let results = run(&model(), requests, options, &mut ReplyControl::default(), &mut control);
    let ends: Vec<FinishReason> = results.iter().flatten().map(|reply| reply.finish).collect();
    let (length, cancelled) = (FinishReason::Length, FinishReason::Cancelled);
    assert_eq!(ends, [length, length, length, length, cancelled, cancelled]);
    let expected: Vec<_> = (0..=6).map(|done| (done, 6)).collect();
    assert_eq!(told, expected, "every request is counted once");
}

/// Its logits after token 13 are NaN.
struct Unlucky(TableLm<B>);

impl CausalLm<B> for Unlucky {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        let logits = self.0.forward(spans, cache)?;
        let rows = spans.iter().filter(|span| span.logits == LogitRows::Last);
        let bad: Vec<f32> =
            rows.map(|span| if span.tokens.contains(&13) { f32::NAN } else { 0.0 }).collect();
        let bad = Tensor::<B, 1>::from_floats(&bad[..], &Default::default());
        Ok(logits + bad.unsqueeze_dim(1))
    }
}

#[test]
fn logits_that_are_not_finite_are_their_requests_error() {
    // None of the others says it.
    let logit_bias = vec![(13, f32::NEG_INFINITY)];
    let params = SamplingParams { max_tokens: 10, logit_bias, ..sampled(1) };
    let prompts = [&[1, 2][..], &[13], &[3]];
    let requests = prompts.map(|prompt| request(prompt, params.clone())).into();
    let results = run_all(&Unlucky(model()), requests, BatchOptions::default());
    assert_eq!(results.len(), 3);
    for (index, prompt) in prompts.into_iter().enumerate() {
        match &results[index] {
            Err(GenerationError::Sample(SampleError::BadLogit { .. })) => assert_eq!(index, 1),
            other => assert_eq!(*other, Ok(generate(&model(), prompt, params.clone()))),
        }
    }
}

/// Counts the tokens and the rows of logits of every pass.
struct Counted(TableLm<B>, std::cell::RefCell<Vec<(usize, usize)>>);

impl CausalLm<B> for Counted {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        let tokens = spans.iter().map(|span| span.tokens.len()).sum();
        let rows = spans.iter().map(|span| span.logits.count(span.tokens.len())).sum();
        self.1.borrow_mut().push((tokens, rows));
        self.0.forward(spans, cache)
    }
}

#[test]
fn tokens_and_rows_of_a_step_are_bounded_and_prefixes_are_kept() {
    let params = SamplingParams { ignore_eos: true, max_tokens: 6, ..Default::default() };
    let prompt: Vec<u32> = (1..=40).collect();
    let requests = || (0..4).map(|_| request(&prompt, params.clone())).collect::<Vec<_>>();
    let alone = generate(&model(), &prompt, params.clone());
    for (tokens_per_step, rows_per_step) in [(7, 1), (16, 3), (100, 2), (1, 1)] {
        let model = Counted(model(), std::cell::RefCell::default());
        let options = BatchOptions { tokens_per_step, ..BatchOptions::default() };
        let mut control = RunControl { rows_per_step, ..RunControl::default() };
        let results = run(&model, requests(), options, &mut ReplyControl::default(), &mut control);
        assert!(results.iter().all(|result| *result == Ok(alone.clone())));
        let passes = model.1.into_inner();
        assert!(
            passes.iter().all(|&(t, r)| (1..=tokens_per_step).contains(&t) && r <= rows_per_step)
        );
        assert_eq!(passes.iter().map(|pass| pass.0).sum::<usize>(), 4 * (40 + 5));
    }
    let model = Counted(model(), std::cell::RefCell::default());
    run_all(&model, requests(), BatchOptions { sequences: 1, ..BatchOptions::default() });
    let tokens: usize = model.1.into_inner().iter().map(|pass| pass.0).sum();
    // The first runs its whole prompt, the others keep all but its last token.
    assert_eq!(tokens, (40 + 5) + 3 * (1 + 5));
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    let model = model();
    let mut make_cache = |sequences, positions| Ok(cache(sequences, positions));
    let mut subject = BatchSubject::new(&model, &mut make_cache, ContiguousKvCache::truncate);
    let endless = SamplingParams { max_tokens: usize::MAX, ..Default::default() };
    let mut run = |options: BatchOptions| {
        let (replies, control) = (&mut ReplyControl::default(), &mut RunControl::default());
        generate_all(&mut subject, vec![request(&[1], endless.clone())], &options, replies, control)
    };
    let error = run(BatchOptions::default()).unwrap_err();
    assert_eq!(error, BatchError::TooLarge { sequences: 1, positions: usize::MAX });
    let bounded = BatchOptions { max_positions: Some(48), ..BatchOptions::default() };
    assert!(run(bounded).unwrap()[0].is_ok());
}

/// Only lets through the token it was made with.
struct Only(u32);

impl LogitsProcessor for Only {
    fn process(&mut self, _: TokenHistory<'_>, logits: &mut [f32]) -> Result<(), ProcessorError> {
        for (token, logit) in logits.iter_mut().enumerate() {
            if token != self.0 as usize {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

#[test]
fn processors_history_and_completeness_are_each_requests_own() {
    let params = SamplingParams { max_tokens: 4, ..Default::default() };
    let history = [5, 6, 7];
    let requests = vec![
        request(&[1], params.clone()).with_processor(Only(33)),
        request(&[8], params.clone()).with_history(history.to_vec()),
        request(&[1], params.clone()).with_processor(Only(34)),
    ];
    let is_complete = |index: usize, reply: &[u32]| index == 2 && reply.len() == 2;
    let mut replies = ReplyControl { is_complete: Some(&is_complete), ..Default::default() };
    let options = BatchOptions::default();
    let results = run(&model(), requests, options, &mut replies, &mut RunControl::default());
    let results: Vec<Generation> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!((&results[0].tokens[..], results[0].finish), (&[33; 4][..], FinishReason::Length));
    assert_eq!(results[1], generate(&model(), &[5, 6, 7, 8], params));
    assert_eq!((&results[2].tokens[..], results[2].finish), (&[34; 2][..], FinishReason::Complete));
}

/// Positions a sequence has room for; some sequences end because of it.
const ROOM: usize = 80;

fn requests(seed: u64, lengths: &[usize]) -> Vec<Request> {
    let mut random = SplitMix::new(seed);
    let one = |(index, &len): (usize, &usize)| {
        let prompt: Vec<u32> = (0..len).map(|_| random.below(VOCAB) as u32).collect();
        let params = SamplingParams {
            temperature: [0.0, 0.7, 2.0][index % 3],
            top_p: [1.0, 0.8][index % 2],
            top_k: [0, 30][index % 2],
            frequency_penalty: 0.2,
            seed: random.next_u64(),
            max_tokens: 1 + random.below(60),
            stop: vec!["a".into(), "bc".into()],
            logprobs: Some(1),
            ..Default::default()
        };
        request(&prompt, params)
    };
    lengths.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_batch_is_its_requests_one_by_one(
        seed in any::<u64>(),
        lengths in prop::collection::vec(1usize..50, 1..9),
        sequences in 1usize..6,
        tokens_per_step in 1usize..80,
    ) {
        let model = TableLm::<B>::new(VOCAB, 3, seed, &Default::default());
        let count = lengths.len();
        let alone: Vec<Generation> = requests(seed, &lengths).into_iter().map(|request| {
            let mut cache = cache(1, ROOM);
            let generator = Generator::new(&model, &mut cache, SequenceId(0), request).unwrap();
            collect(generator.map(Result::unwrap).collect())
        }).collect();
        let max_positions = Some(ROOM);
        let options = BatchOptions { sequences, tokens_per_step, max_positions };
        let check = |batch: Results, streamed: Vec<String>| {
            for ((result, alone), streamed) in batch.into_iter().zip(&alone).zip(streamed) {
                prop_assert_eq!(&result, &Ok(alone.clone()));
                prop_assert_eq!(&streamed, &alone.text);
            }
            Ok(())
        };

        let mut streamed = vec![String::new(); count];
        let mut on_step = |index: usize, step: &Step| streamed[index] += &step.text;
        let mut replies = ReplyControl { on_step: Some(&mut on_step), ..Default::default() };
        let control = &mut RunControl::default();
        let batch = run(&model, requests(seed, &lengths), options, &mut replies, control);
        check(batch, streamed)?;

        let mut shuffled = |sequences: usize, positions: usize| {
            let pool = [sequences * positions.div_ceil(KV_BLOCK), 1, 4];
            Ok(ShuffledKvCache::new(1, pool, DType::F32, seed, &Default::default())
                .with_sequences(sequences))
        };
        let mut subject = BatchSubject::new(&model, &mut shuffled, ShuffledKvCache::truncate);
        let mut streamed = vec![String::new(); count];
        let mut on_step = |index: usize, step: &Step| streamed[index] += &step.text;
        let mut replies = ReplyControl { on_step: Some(&mut on_step), ..Default::default() };
        let all = requests(seed, &lengths);
        let batch = generate_all(&mut subject, all, &options, &mut replies, control).unwrap();
        check(batch, streamed)?;
    }
}
