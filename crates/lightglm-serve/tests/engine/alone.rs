//! Every request is answered as if it were alone.

use lightglm_generation::SamplingParams;
use lightglm_serve::engine::{EngineConfig, EngineRequest, PromptToken, SpeculationConfig};
use proptest::prelude::*;

use crate::harness::*;

/// A request in short: what of it varies.
#[derive(Clone, Debug)]
struct Ask {
    prefix: usize,
    own: usize,
    max_tokens: usize,
    temperature: bool,
    penalties: bool,
    logprobs: bool,
    scored: bool,
    stop: bool,
    key: u8,
    priority: i32,
    /// Steps of the engine before it comes.
    delay: usize,
    /// Steps after which it is given up.
    cancel: Option<usize>,
}

impl Ask {
    fn prompt(&self, index: usize) -> Vec<u32> {
        [prompt(self.prefix, 1), prompt(self.own, index as u32 + 2)].concat()
    }

    fn params(&self, index: usize) -> SamplingParams {
        SamplingParams {
            temperature: if self.temperature { 0.9 } else { 0.0 },
            top_k: if self.penalties { 20 } else { 0 },
            repetition_penalty: if self.penalties { 1.1 } else { 1.0 },
            logprobs: self.logprobs.then_some(2),
            stop: if self.stop { vec!["7 ".into()] } else { vec![] },
            seed: index as u64,
            max_tokens: self.max_tokens,
            ..SamplingParams::default()
        }
    }
}

impl Ask {
    fn request(&self, index: usize) -> EngineRequest {
        let mut request = request(&self.prompt(index), self.params(index));
        request.prompt_logprobs = self.scored.then_some(3);
        request
    }
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let flags = any::<[bool; 5]>();
    let cancel = prop_oneof![3 => Just(None), 1 => (0usize..20).prop_map(Some)];
    let ask = (0usize..70, 1usize..90, 1usize..40, flags, 0u8..3, -1i32..2, 0usize..30, cancel);
    let ask = ask.prop_map(
        |(
            prefix,
            own,
            max_tokens,
            [temperature, penalties, logprobs, scored, stop],
            key,
            priority,
            delay,
            cancel,
        )| Ask {
            prefix,
            own,
            max_tokens,
            temperature,
            penalties,
            logprobs,
            scored,
            stop,
            key,
            priority,
            delay,
            cancel,
        },
    );
    prop::collection::vec(ask, 1..12)
}

fn configs() -> impl Strategy<Value = (EngineConfig, usize)> {
    (1usize..8, 1usize..80, 0usize..40, any::<bool>(), 13usize..60).prop_map(
        |(max_running, token_budget, short_prompt, speculate, blocks)| {
            let mut config = config();
            config.max_running = max_running;
            config.token_budget = token_budget;
            config.pace.short_prompt = short_prompt;
            config.pace.min_chunk = 3;
            config.speculation = speculate.then(|| SpeculationConfig {
                max_sequences: 8,
                min_ngram: 1,
                ..SpeculationConfig::default()
            });
            (config, blocks)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Chunks, batch mates, shared prefixes, eviction, preemption and guesses change nothing.
    #[test]
    fn answers_do_not_depend_on_company(asks in asks(), (config, blocks) in configs()) {
        let mut engine = engine(config, blocks);
        let handle = engine.handle();
        let mut clients: Vec<Option<(Client, lightglm_generation::CancelToken, usize)>> =
            vec![None; asks.len()];
        let mut now = 0;
        loop {
            for (index, ask) in asks.iter().enumerate() {
                if clients[index].is_none() && ask.delay <= now {
                    let mut request = ask.request(index);
                    request.key = ask.key.to_string();
                    request.priority = ask.priority;
                    let cancel = request.cancel.clone();
                    clients[index] = Some((submit(&handle, request), cancel, now));
                }
                if let (Some((_, cancel, since)), Some(after)) = (&clients[index], ask.cancel)
                    && now >= since + after
                {
                    cancel.cancel();
                }
            }
            let busy = engine.step();
            now += 1;
            if !busy && clients.iter().all(Option::is_some) {
                break;
            }
            prop_assert!(now < 100_000);
        }
        run(&mut engine);
        for (index, ask) in asks.iter().enumerate() {
            let told = clients[index].clone().unwrap().0.told();
            let expected = alone(ask.request(index));
            let end = told.end.clone();
            prop_assert!(end.is_some(), "request {} was forgotten", index);
            if ask.cancel.is_some() {
                let tokens = told.tokens();
                prop_assert_eq!(&tokens[..], &expected.tokens()[..tokens.len()]);
                prop_assert_eq!(&told.prompt[..], &expected.prompt[..told.prompt.len()]);
                continue;
            }
            prop_assert_eq!(&told.steps, &expected.steps);
            prop_assert_eq!(&told.prompt, &expected.prompt);
            let usage = end.unwrap().unwrap();
            let reference = expected.end.unwrap().unwrap();
            prop_assert_eq!(usage.0, reference.0);
            prop_assert_eq!(usage.1.completion_tokens, reference.1.completion_tokens);
            prop_assert_eq!(usage.1.prompt_tokens, reference.1.prompt_tokens);
        }
    }
}

/// The cases above do meet what they are meant to meet.
#[test]
fn small_caches_preempt_and_answers_stay() {
    let mut config = config();
    config.max_running = 6;
    let mut engine = engine(config, 12);
    let handle = engine.handle();
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| prompt(20 + 5 * i, i as u32)).collect();
    let clients: Vec<Client> = (0..6)
        .map(|i| {
            let mut params = sampled(60, i as u64);
            params.ignore_eos = true;
            submit(&handle, request(&prompts[i], params))
        })
        .collect();
    run(&mut engine);
    assert!(handle.stats().preemptions > 0, "{:?}", handle.stats());
    for (i, client) in clients.iter().enumerate() {
        let mut params = sampled(60, i as u64);
        params.ignore_eos = true;
        assert_eq!(client.told().steps, alone(request(&prompts[i], params)).steps);
    }
}

#[test]
fn a_shared_prefix_is_run_once() {
    let mut engine = engine(config(), 200);
    let handle = engine.handle();
    let shared = prompt(100, 3);
    let clients: Vec<Client> =
        (0..5).map(|i| submit(&handle, request(&shared, sampled(8, i)))).collect();
    run(&mut engine);
    let stats = handle.stats();
    // The first runs all of it, the others what is left of the last block.
    assert_eq!(stats.prompt_tokens, 100 + 4 * 4);
    assert_eq!(stats.cached_tokens, 4 * 96);
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(client.told().steps, alone(request(&shared, sampled(8, i as u64))).steps);
    }
    // The next turn of a conversation finds the last one, reply included.
    let told = clients[0].told();
    let next = [shared, told.tokens(), prompt(30, 9)].concat();
    let before = handle.stats().cached_tokens;
    submit(&handle, request(&next, greedy(1)));
    run(&mut engine);
    assert!(handle.stats().cached_tokens - before >= 96);
}

/// A prompt's tokens have the probabilities that they would have as a reply, whatever the cache holds and however
/// the prompt is cut.
#[test]
fn a_prompt_is_scored_as_a_reply_is() {
    let prompt = prompt(150, 4);
    let step = |before: &[u32]| {
        let params = SamplingParams { logprobs: Some(VOCAB), ..greedy(1) };
        alone(request(before, params)).steps.remove(0).top_logprobs
    };
    let expected: Vec<PromptToken> = (1..prompt.len())
        .map(|at| {
            let (token, all) = (prompt[at], step(&prompt[..at]));
            let logprob = all.iter().find(|it| it.token == token).unwrap().logprob;
            PromptToken { token, logprob, top_logprobs: all[..2].to_vec() }
        })
        .collect();
    for budget in [1, 13, 64, 512] {
        let mut config = config();
        config.token_budget = budget;
        let mut engine = engine(config, 200);
        let handle = engine.handle();
        let reply = submit(&handle, request(&prompt, greedy(5)));
        let scored = || {
            let mut request = request(&prompt, greedy(5));
            request.prompt_logprobs = Some(2);
            submit(&handle, request)
        };
        // Beside the same prompt, and after it.
        let beside = [scored(), scored()];
        run(&mut engine);
        let after = scored();
        run(&mut engine);
        for client in beside.iter().chain([&after]) {
            let told = client.told();
            assert_eq!(told.prompt, expected, "{budget}");
            assert_eq!(told.started, Some(0));
            assert_eq!(told.steps, reply.told().steps);
        }
        assert_eq!(reply.told().prompt, []);
    }
    // A single token has nothing before it.
    let mut one = request(&prompt[..1], greedy(1));
    one.prompt_logprobs = Some(0);
    assert_eq!(alone(one).prompt, []);
}

#[test]
fn other_salts_share_no_prefix_and_say_the_same() {
    let shared = prompt(100, 3);
    let salts = ["", "one", "two", "one", ""];
    let ask = |salt: &str| {
        let mut request = request(&shared, sampled(8, 5));
        request.cache_salt = salt.into();
        request
    };
    let expected = alone(ask("")).steps;
    // One after the other, and all at once.
    for together in [false, true] {
        let mut engine = engine(config(), 200);
        let handle = engine.handle();
        let mut clients = Vec::new();
        for salt in salts {
            clients.push(submit(&handle, ask(salt)));
            if !together {
                run(&mut engine);
            }
        }
        run(&mut engine);
        let cached: Vec<_> = clients.iter().map(|client| client.told().started.unwrap()).collect();
        assert_eq!(cached, [0, 0, 0, 96, 96]);
        assert!(clients.iter().all(|client| client.told().steps == expected));
    }
}
