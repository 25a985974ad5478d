//! Batches give what one prompt at a time gives, bit for bit, and what can be worked out by hand.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::DType;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{CausalLm, KV_BLOCK, KvCacheError, LogitRows, SequenceId, Span};
use lightglm_generation::batched::{
    BatchError, BatchOptions, BatchSubject, ReplyControl, generate, log_likelihoods,
};
use lightglm_generation::{
    FinishReason, Generation, GenerationError, GenerationRequest, RunControl, SamplingParams,
};
use lightglm_testkit::{ShuffledKvCache, SplitMix, TableLm};

const VOCAB: usize = 50;

fn model() -> TableLm<Flex> {
    // Looks back over five tokens: a token of a neighbour, or of the sequence's last tenant, shows.
    TableLm::new(VOCAB, 5, 11, &FlexDevice)
}

fn cache(sequences: usize, positions: usize) -> Result<ShuffledKvCache<Flex>, KvCacheError> {
    let blocks = sequences * positions.div_ceil(KV_BLOCK);
    let shape = [blocks, 1, TableLm::<Flex>::HEAD_DIM];
    Ok(ShuffledKvCache::new(1, shape, DType::F32, 5, &FlexDevice).with_sequences(sequences))
}

fn tokens(random: &mut SplitMix, count: usize) -> Vec<u32> {
    (0..count).map(|_| random.below(VOCAB) as u32).collect()
}

/// Prompts of awkward lengths; every other one begins like the one before it.
fn prompts() -> Vec<Vec<u32>> {
    let mut random = SplitMix::new(1);
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    for length in [1, 2, 15, 16, 17, 40, 3, 33, 7, 7, 64] {
        let mut prompt = tokens(&mut random, length);
        if prompts.len() % 2 == 1 {
            prompt.splice(0..0, prompts[prompts.len() - 1].iter().copied());
        }
        prompts.push(prompt);
    }
    prompts.push(prompts[3].clone());
    prompts
}

type Request = GenerationRequest<fn(u32) -> Option<String>>;

/// Greedy requests, whose replies have no text.
fn greedy(prompts: &[Vec<u32>], end_tokens: &[u32], max_tokens: usize) -> Vec<Request> {
    let request = |prompt: &Vec<u32>| {
        let params = SamplingParams { max_tokens, ..SamplingParams::default() };
        GenerationRequest::new(prompt.clone(), params, end_tokens.to_vec(), (|_| None) as _)
    };
    prompts.iter().map(request).collect()
}

fn options(sequences: usize, tokens_per_step: usize) -> BatchOptions {
    BatchOptions { sequences, tokens_per_step, max_positions: None }
}

fn replies(options: BatchOptions) -> Vec<Result<Generation, GenerationError>> {
    let model = model();
    let mut make_cache = cache;
    let mut subject = BatchSubject::new(&model, &mut make_cache, ShuffledKvCache::truncate);
    let is_complete = |_, reply: &[u32]| reply.len() > 2 && reply[reply.len() - 1] % 7 == 3;
    let mut replies = ReplyControl { is_complete: Some(&is_complete), ..ReplyControl::default() };
    let requests = greedy(&prompts(), &[4, 9], 24);
    let control = &mut RunControl::default();
    generate(&mut subject, requests, &options, &mut replies, control).expect("replies")
}

#[test]
fn batched_replies_are_those_of_one_prompt_at_a_time() {
    let alone = replies(options(1, 1));
    assert!(alone.iter().all(Result::is_ok));
    for (sequences, tokens_per_step) in [(1, 1000), (2, 3), (3, 16), (5, 1), (12, 64), (100, 9999)]
    {
        let batched = replies(options(sequences, tokens_per_step));
        assert_eq!(batched, alone, "{sequences} sequences, {tokens_per_step} tokens a step");
    }
    let ends: Vec<FinishReason> = alone.iter().flatten().map(|reply| reply.finish).collect();
    assert!(
        ends.contains(&FinishReason::Eos) && ends.contains(&FinishReason::Complete),
        "{ends:?}"
    );
}

/// The model run over prompt and continuation at once, in a fresh cache.
fn reference(prompt: &[u32], continuation: &[u32]) -> f64 {
    let whole = [prompt, continuation].concat();
    let mut cache = cache(1, whole.len()).expect("a cache");
    let span = Span::text(SequenceId(0), &whole, LogitRows::All);
    let logits = model().forward(&[span], &mut cache).expect("logits");
    let logits = logits.into_data().to_vec::<f32>().expect("f32");
    let score = |(offset, &token): (usize, &u32)| {
        let row = &logits[(prompt.len() - 1 + offset) * VOCAB..][..VOCAB];
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
        f64::from(row[token as usize]) - (f64::from(max) + sum.ln())
    };
    continuation.iter().enumerate().map(score).sum()
}

/// Continuations of which some begin alike, some are prefixes of others, and two are equal.
fn continuations() -> Vec<Vec<u32>> {
    let mut random = SplitMix::new(2);
    let trunk = tokens(&mut random, 6);
    let mut continuations: Vec<Vec<u32>> = (1..=6).map(|n| trunk[..n].to_vec()).collect();
    for kept in [0, 2, 2, 5] {
        let mut branch = trunk[..kept].to_vec();
        branch.extend(tokens(&mut random, 4));
        continuations.push(branch);
    }
    continuations.push(trunk[..3].to_vec());
    continuations.push(vec![7]);
    continuations
}

fn scores(options: BatchOptions, rows_per_step: usize) -> Vec<Option<Vec<f64>>> {
    let model = model();
    let mut make_cache = cache;
    let mut subject = BatchSubject::new(&model, &mut make_cache, ShuffledKvCache::truncate);
    let mut control = RunControl { rows_per_step, ..RunControl::default() };
    log_likelihoods(&mut subject, &prompts(), &continuations(), &options, &mut control)
        .expect("scores")
}

#[test]
fn log_likelihoods_are_those_of_the_whole_text_in_one_pass() {
    let scores = scores(BatchOptions::default(), 128);
    for (prompt, scores) in prompts().iter().zip(scores) {
        for (continuation, score) in continuations().iter().zip(scores.expect("not stopped")) {
            assert_eq!(score, reference(prompt, continuation), "{prompt:?} {continuation:?}");
        }
    }
}

#[test]
fn batched_log_likelihoods_are_those_of_one_prompt_at_a_time() {
    let alone = scores(options(1, 1), 1);
    for (sequences, tokens_per_step, rows) in [(1, 999, 9), (2, 3, 5), (5, 1, 1), (12, 64, 128)] {
        let batched = scores(options(sequences, tokens_per_step), rows);
        assert_eq!(batched, alone, "{sequences} sequences, {tokens_per_step} tokens, {rows} rows");
    }
}

#[test]
fn a_scripted_model_says_its_script() {
    let script = [1, 2, 3, 4, 5, 6];
    let model = TableLm::<Flex>::new(VOCAB, 2, 0, &FlexDevice).with_successors(&script);
    let mut make_cache = cache;
    let mut subject = BatchSubject::new(&model, &mut make_cache, ShuffledKvCache::truncate);
    let mut run = |end_tokens: &[u32], max_tokens, is_complete: &dyn Fn(usize, &[u32]) -> bool| {
        let requests = greedy(&[vec![9, 1], vec![3]], end_tokens, max_tokens);
        let mut replies =
            ReplyControl { is_complete: Some(is_complete), ..ReplyControl::default() };
        let (options, control) = (BatchOptions::default(), &mut RunControl::default());
        let results = generate(&mut subject, requests, &options, &mut replies, control);
        let reply = |reply: Result<Generation, GenerationError>| {
            reply.map(|reply| (reply.content().to_vec(), reply.finish))
        };
        results.expect("replies").into_iter().map(reply).collect::<Result<Vec<_>, _>>()
    };
    let expected = [(vec![2, 3, 4, 5], FinishReason::Eos), (vec![4, 5], FinishReason::Eos)];
    assert_eq!(run(&[6], 9, &|_, _| false), Ok(expected.into()));
    let expected = [(vec![2, 3], FinishReason::Length), (vec![4, 5], FinishReason::Length)];
    assert_eq!(run(&[6], 2, &|_, _| false), Ok(expected.into()));
    let complete = FinishReason::Complete;
    let expected = [(vec![2, 3, 4], complete), (vec![4], complete)];
    assert_eq!(run(&[], 9, &|_, reply| reply.ends_with(&[4])), Ok(expected.into()));
    assert!(matches!(run(&[], 0, &|_, _| false), Err(GenerationError::Sampling(_))));
}

#[test]
fn progress_is_told_and_the_stop_flag_leaves_what_was_done() {
    let model = model();
    let mut make_cache = cache;
    let mut subject = BatchSubject::new(&model, &mut make_cache, ShuffledKvCache::truncate);
    let prompts = prompts();
    let options = options(2, 64);
    let stop = AtomicBool::new(false);
    let mut told = Vec::new();
    let mut progress = |done, total| {
        told.push((done, total));
        stop.store(done >= 4, Ordering::Relaxed);
    };
    let mut control =
        RunControl { progress: Some(&mut progress), stop: Some(&stop), ..RunControl::default() };
    let scores = log_likelihoods(&mut subject, &prompts, &continuations(), &options, &mut control)
        .expect("scores");
    assert_eq!(told, [(0, 12), (2, 12), (4, 12)]);
    assert_eq!(
        scores.iter().map(Option::is_some).collect::<Vec<_>>()[..5],
        [true, true, true, true, false]
    );
}

#[test]
fn bad_batches_are_refused_by_name() {
    let model = model().with_max_positions(20);
    let mut make_cache = cache;
    let mut subject = BatchSubject::new(&model, &mut make_cache, ShuffledKvCache::truncate);
    let mut score = |prompts: &[Vec<u32>], continuations: &[Vec<u32>]| {
        let (options, control) = (BatchOptions::default(), &mut RunControl::default());
        log_likelihoods(&mut subject, prompts, continuations, &options, control)
    };
    assert_eq!(score(&[], &[vec![1]]), Ok(vec![]));
    assert_eq!(score(&[vec![1], vec![]], &[vec![1]]), Err(BatchError::EmptyPrompt { prompt: 1 }));
    let empty = BatchError::EmptyContinuation { continuation: 0 };
    assert_eq!(score(&[vec![1]], &[vec![]]), Err(empty));
    let outside = BatchError::TokenOutOfRange {
        part: "continuation",
        index: 0,
        token: 50,
        vocab_size: VOCAB,
    };
    assert_eq!(score(&[vec![1]], &[vec![50]]), Err(outside));
    let error = score(&[vec![1; 5], vec![1; 21]], &[vec![1]]).unwrap_err();
    assert!(
        matches!(&error, BatchError::Forward { prompts, .. } if prompts[..] == [0, 1]),
        "{error}"
    );
    let full = KvCacheError::Full { requested: 1, available: 0 };
    let mut no_cache = |_, _| Err::<ShuffledKvCache<Flex>, _>(full.clone());
    let mut subject = BatchSubject::new(&model, &mut no_cache, ShuffledKvCache::truncate);
    let (options, control) = (BatchOptions::default(), &mut RunControl::default());
    let error = log_likelihoods(&mut subject, &[vec![1]], &[vec![1]], &options, control);
    assert_eq!(error, Err(BatchError::Cache { source: full.clone() }));
}
