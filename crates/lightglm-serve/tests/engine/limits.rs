//! What the engine refuses, and how requests end before their time.

use std::time::{Duration, Instant};

use lightglm_generation::{FinishReason, SamplingParams};
use lightglm_serve::engine::{EngineError, Rejection};

use crate::harness::*;

fn rejection(engine: &TestEngine, request: lightglm_serve::engine::EngineRequest) -> Rejection {
    engine.handle().submit(request, Client::default().sink()).expect_err("refused")
}

#[test]
fn the_queue_is_bounded() {
    let mut config = config();
    (config.max_waiting, config.max_open_per_key) = (3, Some(2));
    let mut engine = engine(config, 100);
    let handle = engine.handle();
    let of = |key: &str| {
        let mut request = request(&[1, 2], greedy(2));
        request.key = key.into();
        request
    };
    let mut clients = vec![submit(&handle, of("a")), submit(&handle, of("a"))];
    let refused = rejection(&engine, of("a"));
    assert!(matches!(refused, Rejection::KeyLimit { open: 2, .. }), "{refused:?}");
    clients.push(submit(&handle, of("b")));
    let refused = rejection(&engine, of("c"));
    let Rejection::QueueFull { waiting: 3, retry_after } = refused else { panic!("{refused:?}") };
    assert!(retry_after >= Duration::from_secs(1));
    assert_eq!((handle.stats().waiting, handle.stats().rejected), (3, 2));
    run(&mut engine);
    assert!(clients.iter().all(Client::is_over));
    clients.push(submit(&handle, of("a")));
    run(&mut engine);
}

#[test]
fn requests_that_cannot_run_are_refused_at_once() {
    let mut config = config();
    config.max_positions = 40;
    let engine = engine(config, 100);
    assert_eq!(rejection(&engine, request(&[], greedy(1))), Rejection::EmptyPrompt);
    let long = request(&prompt(40, 0), greedy(1));
    assert_eq!(rejection(&engine, long), Rejection::PromptTooLong { tokens: 40, limit: 39 });
    let token = VOCAB as u32;
    let strange = request(&[1, token], greedy(1));
    let expected = Rejection::UnknownToken { token, vocab_size: VOCAB };
    assert_eq!(rejection(&engine, strange), expected);
    for temperature in [-1.0, f32::NAN] {
        let params = SamplingParams { temperature, ..SamplingParams::default() };
        let refused = rejection(&engine, request(&[1], params));
        assert!(matches!(refused, Rejection::Sampling(_)), "{refused:?}");
    }
    let mut other = request(&[1], greedy(1));
    other.model = Some("x".into());
    assert_eq!(rejection(&engine, other), Rejection::UnknownModel { name: "x".into() });
    engine.handle().drain();
    assert_eq!(rejection(&engine, request(&[1], greedy(1))), Rejection::Draining);
}

#[test]
fn replies_end_where_the_room_ends() {
    let mut small = config();
    small.max_positions = 40;
    let mut params = greedy(500);
    params.ignore_eos = true;
    let mut engine = engine(small, 100);
    let client = submit(&engine.handle(), request(&prompt(30, 0), params.clone()));
    run(&mut engine);
    assert_eq!((client.told().finish(), client.told().tokens().len()), (FinishReason::Length, 10));

    // A cache of two blocks, shared by two that want more than it has.
    let mut engine = crate::harness::engine(config(), 2);
    let handle = engine.handle();
    let clients = [1, 2].map(|i| submit(&handle, request(&prompt(10, i), params.clone())));
    run(&mut engine);
    for client in clients {
        assert_eq!(client.told().finish(), FinishReason::Length);
        assert_eq!(client.told().tokens().len(), 22);
    }
}

#[test]
fn cancelled_requests_free_their_blocks_within_one_step() {
    let mut config = config();
    config.max_running = 2;
    let mut engine = engine(config, 100);
    let handle = engine.handle();
    let mut params = greedy(1000);
    params.ignore_eos = true;
    let ask = |seed| {
        let request = request(&prompt(50, seed), params.clone());
        let cancel = request.cancel.clone();
        (submit(&handle, request), cancel)
    };
    let [(first, stop_first), (second, _stop), (third, stop_third)] = [ask(1), ask(2), ask(3)];
    for _ in 0..10 {
        engine.step();
    }
    assert_eq!((handle.stats().running, handle.stats().waiting), (2, 1));
    let used = handle.stats().kv_blocks_used;
    stop_first.cancel();
    stop_third.cancel();
    engine.step();
    assert!(first.is_over() && third.is_over() && !second.is_over());
    assert_eq!(first.told().finish(), FinishReason::Cancelled);
    assert_eq!((handle.stats().running, handle.stats().waiting), (1, 0));
    assert!(handle.stats().kv_blocks_used < used);
    assert_eq!(handle.stats().cancelled, 2);
    assert!(first.told().tokens().len() > 2, "what came stays");
    assert_eq!(third.told().started, None);
}

#[test]
fn who_hangs_up_is_cancelled() {
    let mut engine = engine(config(), 100);
    let handle = engine.handle();
    let client = Client::default();
    let mut params = greedy(1000);
    params.ignore_eos = true;
    handle.submit(request(&prompt(5, 1), params), client.sink_until(3)).unwrap();
    run(&mut engine);
    assert_eq!(client.told().finish(), FinishReason::Cancelled);
    assert!(client.told().tokens().len() <= 4);
}

#[test]
fn deadlines_are_kept() {
    let mut engine = engine(config(), 100);
    let handle = engine.handle();
    let mut late = request(&prompt(5, 1), greedy(1000));
    late.deadline = Some(Instant::now());
    let mut running = request(&prompt(5, 2), greedy(100_000));
    running.params.ignore_eos = true;
    running.deadline = Some(Instant::now() + Duration::from_millis(30));
    let clients = [submit(&handle, late), submit(&handle, running)];
    run(&mut engine);
    let ends = clients.map(|client| client.told().end.unwrap().unwrap_err());
    assert_eq!(ends[0], EngineError::DeadlinePassed { generated: 0 });
    assert!(matches!(ends[1], EngineError::DeadlinePassed { generated: 1.. }), "{:?}", ends[1]);
    assert_eq!(handle.stats().failed, 2);
}

#[test]
fn higher_priorities_start_first() {
    let mut config = config();
    config.max_running = 1;
    let mut engine = engine(config, 100);
    let handle = engine.handle();
    let of = |priority| {
        let mut request = request(&prompt(5, 1), greedy(3));
        request.priority = priority;
        submit(&handle, request)
    };
    let clients = [of(0), of(-5), of(7)];
    let mut order = Vec::new();
    while engine.step() {
        for (i, client) in clients.iter().enumerate() {
            if client.is_over() && !order.contains(&i) {
                order.push(i);
            }
        }
    }
    assert_eq!(order, [2, 0, 1]);
}
