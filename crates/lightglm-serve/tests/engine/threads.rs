//! The engine on its own thread.

use std::thread;

use lightglm_serve::engine::{EngineError, Rejection};

use crate::harness::*;

#[test]
fn many_threads_are_served_and_the_last_word_is_said() {
    let engine = engine(config(), 300);
    let thread = engine.spawn().unwrap();
    let clients: Vec<Vec<Client>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let handle = thread.handle();
                scope.spawn(move || {
                    let ask = |i: usize| {
                        let mut request = request(&prompt(5 + i, worker), sampled(10, i as u64));
                        request.key = worker.to_string();
                        if i % 7 == 3 {
                            request.cancel.cancel();
                        }
                        submit(&handle, request)
                    };
                    (0..20).map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let handle = thread.handle();
    assert!(handle.is_alive());
    thread.join();
    assert!(!handle.is_alive() && handle.is_idle());
    for (worker, clients) in clients.iter().enumerate() {
        for (i, client) in clients.iter().enumerate() {
            assert!(client.is_over());
            if i % 7 != 3 {
                let expected = alone(request(&prompt(5 + i, worker as u32), sampled(10, i as u64)));
                assert_eq!(client.told().steps, expected.steps);
            }
        }
    }
    let refused = handle.submit(request(&[1], greedy(1)), Client::default().sink());
    assert_eq!(refused, Err(Rejection::Draining));
}

#[test]
fn a_dropped_engine_tells_who_waits() {
    let mut config = config();
    config.max_running = 1;
    let mut engine = engine(config, 300);
    let handle = engine.handle();
    let ask = || submit(&handle, request(&[1, 2], greedy(1000)));
    let (running, waiting) = (ask(), ask());
    engine.step();
    assert_eq!((handle.stats().running, handle.stats().waiting), (1, 1));
    let arrived = ask();
    drop(engine);
    for client in [running, waiting, arrived] {
        assert_eq!(client.told().end, Some(Err(EngineError::Stopped)));
    }
    assert!(handle.is_idle() && !handle.is_alive());
}
