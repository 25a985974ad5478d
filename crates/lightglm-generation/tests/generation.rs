//! Generation with a model that is a table: tokens, text, ends.

mod table_generation;

use std::cell::RefCell;
use std::num::NonZeroUsize;

use burn::tensor::Tensor;
use lightglm_core::{CausalLm, KvCache, KvCacheError, LmError, LogitRows, SequenceId, Span};
use lightglm_generation::{
    CancelToken, FinishReason, Generation, GenerationError, GenerationRequest, Generator,
    SamplingError, SamplingParams, Step, log_softmax_at, top_logprobs,
};
use lightglm_testkit::TableLm;
use lightglm_text::Detokenize;
use table_generation::{
    B, EOS, VOCAB, cache, collect, generate, letter, model, request, sampled, token,
};

fn spoken(text: &str, params: SamplingParams) -> Generation {
    let script: Vec<u32> = text.chars().map(token).collect();
    let model = model().with_successors(&script);
    generate(&model, &script[..1], params)
}

#[test]
fn greedy_follows_the_table_and_ends_at_eos() {
    let mut script: Vec<u32> = ">abcdef".chars().map(token).collect();
    script.push(EOS);
    let model = model().with_successors(&script);
    let answer = generate(&model, &script[..1], SamplingParams::default());
    assert_eq!((answer.text.as_str(), answer.finish), ("abcdef", FinishReason::Eos));
    assert_eq!(answer.tokens, &script[1..]);

    let params = SamplingParams { ignore_eos: true, max_tokens: 9, ..Default::default() };
    let answer = generate(&model, &script[..1], params);
    assert_eq!((answer.tokens.len(), answer.finish), (9, FinishReason::Length));
    assert!(answer.text.starts_with("abcdef "));
}

#[test]
fn stop_tokens_and_min_tokens() {
    let stop_token_ids = vec![token('d')];
    let params = SamplingParams { stop_token_ids, max_tokens: 8, ..Default::default() };
    let answer = spoken(">abcdefgh", params.clone());
    assert_eq!((answer.text.as_str(), answer.finish), ("abc", FinishReason::StopToken));
    assert_eq!(answer.tokens.last(), Some(&token('d')));

    let params = SamplingParams { min_tokens: 5, stop: vec!["b".into()], ..params };
    let answer = spoken(">abcdefgh", params);
    assert!(answer.tokens.len() >= 5);
    assert!(!answer.tokens[..5].contains(&token('d')));
    assert!(answer.text.starts_with("abc"));
}

/// What goes round in a circle is ended where that is asked for, and avoided where that is.
#[test]
fn circles_end_or_do_not_come() {
    let on = SamplingParams { max_tokens: 60, ..Default::default() };
    let circle = spoken(">abca", on.clone());
    assert_eq!((circle.text.len(), circle.finish), (60, FinishReason::Length));

    let ended = spoken(">abca", SamplingParams { loop_tokens: 12, ..on.clone() });
    assert_eq!((ended.text.as_str(), ended.finish), ("abcabcabcabc", FinishReason::Repetition));
    let late = SamplingParams { loop_tokens: 12, min_tokens: 20, ..on.clone() };
    assert_eq!(spoken(">abca", late).tokens.len(), 21);
    // What the stop strings held back comes with the end.
    let held = SamplingParams { loop_tokens: 12, stop: vec!["bcX".into()], ..on.clone() };
    assert_eq!(spoken(">abca", held).text, "abcabcabcabc");

    let dry = SamplingParams { dry_multiplier: 50.0, dry_allowed_length: 4, ..on };
    let avoided = spoken(">abca", dry).text;
    assert!(avoided.starts_with("abcabca") && !avoided.contains("abcabcabc"), "{avoided}");
}

#[test]
fn stop_strings_across_tokens_hold_text_back() {
    let stop = ["fgx", "de!", "gh"].map(String::from).to_vec();
    let answer = spoken(">abcdefghi", SamplingParams { stop, ..Default::default() });
    assert_eq!((answer.text.as_str(), answer.finish), ("abcdef", FinishReason::StopString));
    let pieces: Vec<&str> = answer.steps.iter().map(|step| step.text.as_str()).collect();
    // "de" could become "de!" and "fg" "fgx"; "f" is free once "fgh" rules that out.
    assert_eq!(pieces, ["a", "b", "c", "", "", "de", "", "f"]);
}

#[test]
fn text_held_back_comes_with_the_last_step() {
    let params = SamplingParams { stop: vec!["cdX".into()], max_tokens: 4, ..Default::default() };
    let answer = spoken(">abcdefghi", params);
    assert_eq!((answer.text.as_str(), answer.finish), ("abcd", FinishReason::Length));
    assert_eq!(answer.steps.last().unwrap().text, "cd");
}

/// Holds the first half of every pair of tokens back.
struct Pairs(Option<u32>);

impl Detokenize for Pairs {
    fn push(&mut self, token: u32) -> Option<String> {
        match self.0.take() {
            Some(first) => Some(letter(first)? + &letter(token)?),
            None => {
                self.0 = Some(token);
                None
            }
        }
    }

    fn finish(&mut self) -> Option<String> {
        self.0.take().map(|_| "?".to_string())
    }
}

#[test]
fn the_detokenizers_rest_is_flushed_and_searched() {
    let cases = [("z", "abcd?", FinishReason::Length), ("d?", "abc", FinishReason::StopString)];
    for (stop, text, finish) in cases {
        let script: Vec<u32> = ">abcdefgh".chars().map(token).collect();
        let model = model().with_successors(&script);
        let params =
            SamplingParams { stop: vec![stop.into()], max_tokens: 5, ..Default::default() };
        let prompt = script[..1].to_vec();
        let request = GenerationRequest::new(prompt, params, vec![EOS], Pairs(None));
        let mut cache = cache(1, 64);
        let steps =
            Generator::new(&model, &mut cache, SequenceId(0), request).unwrap().map(Result::unwrap);
        let answer = collect(steps.collect());
        assert_eq!((answer.text.as_str(), answer.finish), (text, finish));
    }
}

#[test]
fn seeds_repeat_and_differ() {
    let prompt = [5, 6, 7];
    let answers: Vec<Generation> =
        [1, 1, 2].into_iter().map(|seed| generate(&model(), &prompt, sampled(seed))).collect();
    assert_eq!(answers[0], answers[1]);
    assert_ne!(answers[0].tokens, answers[2].tokens);
}

#[test]
fn prompt_chunks_do_not_show_and_are_reported() {
    let prompt: Vec<u32> = (0..100).map(|i| i % 90 + 1).collect();
    let whole = generate(&model(), &prompt, sampled(3));
    for chunk in [1, 7, 16, 64, 100] {
        let mut cache = cache(1, 256);
        let model = model();
        let seen = RefCell::new(Vec::new());
        let generator =
            Generator::new(&model, &mut cache, SequenceId(0), request(&prompt, sampled(3)))
                .unwrap()
                .with_prefill_chunk(NonZeroUsize::new(chunk).unwrap())
                .with_prefill_callback(|progress| seen.borrow_mut().push(progress.done));
        let steps = generator.map(Result::unwrap).collect();
        assert_eq!(collect(steps), whole, "chunks of {chunk}");
        let chunks = 1..=100usize.div_ceil(chunk);
        let expected: Vec<usize> = chunks.map(|n| (n * chunk).min(100)).collect();
        assert_eq!(*seen.borrow(), expected);
    }
}

#[test]
fn cancelled_between_prompt_chunks_and_between_tokens() {
    let prompt = [3; 64];
    let (model, cancel) = (model(), CancelToken::new());
    let mut cache = cache(1, 256);
    let params = SamplingParams { ignore_eos: true, ..Default::default() };
    let request = || request(&prompt, params.clone()).with_cancel(cancel.clone());
    let steps: Vec<Step> = Generator::new(&model, &mut cache, SequenceId(0), request())
        .unwrap()
        .with_prefill_chunk(NonZeroUsize::new(10).unwrap())
        .with_prefill_callback(|progress| {
            if progress.done == 30 {
                cancel.cancel();
            }
        })
        .map(Result::unwrap)
        .collect();
    assert_eq!(steps.len(), 1);
    assert_eq!((steps[0].token, steps[0].finish), (None, Some(FinishReason::Cancelled)));
    assert_eq!(cache.sequence(SequenceId(0)).unwrap().1, 30);

    cancel.reset();
    cache.clear(SequenceId(0)).unwrap();
    let mut generator = Generator::new(&model, &mut cache, SequenceId(0), request()).unwrap();
    for _ in 0..3 {
        assert_eq!(generator.next().unwrap().unwrap().finish, None);
    }
    cancel.cancel();
    assert_eq!(generator.next().unwrap().unwrap().finish, Some(FinishReason::Cancelled));
    assert!(generator.next().is_none());
    assert_eq!(generator.generated().len(), 3);
}

#[test]
fn the_end_of_the_room_is_a_length_and_a_long_prompt_an_error() {
    let params = SamplingParams { ignore_eos: true, ..Default::default() };
    let in_cache = |positions: usize, model: &TableLm<B>, prompt: &[u32]| {
        let mut cache = cache(1, positions);
        let generator =
            Generator::new(model, &mut cache, SequenceId(0), request(prompt, params.clone()));
        generator.unwrap().collect::<Vec<_>>()
    };
    let free = model();
    let limited = model().with_max_positions(20);
    for (positions, model) in [(20, &free), (64, &limited)] {
        let steps = in_cache(positions, model, &[1; 15]).into_iter().map(Result::unwrap);
        let answer = collect(steps.collect());
        // Five tokens are run after the prompt's fifteen, a sixth is chosen.
        assert_eq!((answer.tokens.len(), answer.finish), (6, FinishReason::Length));
        let steps = in_cache(positions, model, &[1; 21]);
        assert_eq!(steps.len(), 1);
        let full = KvCacheError::Full { requested: 21, available: 20 };
        let long = LmError::TooLong { position: 20, limit: 20 };
        let expected = if positions == 20 { LmError::Cache(full) } else { long };
        assert_eq!(steps[0], Err(GenerationError::Forward(expected.into())));
    }
}

#[test]
fn bad_requests_are_refused() {
    let (model, mut cache) = (model(), cache(1, 64));
    let mut error = |prompt: &[u32], params: SamplingParams| {
        Generator::new(&model, &mut cache, SequenceId(0), request(prompt, params)).err()
    };
    assert_eq!(error(&[], SamplingParams::default()), Some(GenerationError::EmptyPrompt));
    let params = SamplingParams { stop_token_ids: vec![VOCAB as u32], ..Default::default() };
    let (field, token, vocab_size) = ("stop_token_ids", VOCAB as u32, VOCAB);
    let expected = SamplingError::TokenOutOfRange { field, token, vocab_size };
    assert_eq!(error(&[1], params), Some(expected.into()));
    let params = SamplingParams { temperature: f32::NAN, ..Default::default() };
    assert!(matches!(error(&[1], params), Some(GenerationError::Sampling(_))));
    assert_eq!(error(&[1], SamplingParams::default()), None);
}

#[test]
fn log_probabilities_are_those_of_the_models_rows() {
    let (model, prompt) = (model(), [9, 8, 7]);
    let params = SamplingParams { logprobs: Some(3), repetition_penalty: 1.4, ..sampled(4) };
    let answer = generate(&model, &prompt, params);
    let tokens = [&prompt[..], &answer.tokens].concat();
    let mut cache = cache(1, 256);
    let span = Span::text(SequenceId(0), &tokens, LogitRows::All);
    let rows: Tensor<B, 2> = model.forward(&[span], &mut cache).unwrap();
    let rows: Vec<f32> = rows.into_data().into_vec().unwrap();
    for (index, step) in answer.steps.iter().enumerate() {
        let row = &rows[(prompt.len() - 1 + index) * VOCAB..][..VOCAB];
        assert_eq!(step.logprob, Some(log_softmax_at(row, step.token.unwrap())));
        assert_eq!(step.top_logprobs, top_logprobs(row, 3));
    }
}

#[test]
fn history_counts_in_penalties() {
    let script: Vec<u32> = ">a".chars().map(token).collect();
    let model = model().with_successors(&script);
    let params = SamplingParams { repetition_penalty: 1e6, max_tokens: 1, ..Default::default() };
    let first = |history: Vec<u32>| {
        let mut cache = cache(1, 64);
        let request = request(&script[..1], params.clone()).with_history(history);
        Generator::new(&model, &mut cache, SequenceId(0), request)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .token
    };
    assert_eq!(first(vec![]), Some(token('a')));
    assert_ne!(first(vec![token('a')]), Some(token('a')));
}
