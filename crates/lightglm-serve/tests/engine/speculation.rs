//! Guesses save passes and change nothing.

use std::sync::Arc;

use lightglm_serve::engine::{EngineBuilder, SpeculationConfig};

use crate::harness::*;

/// A model that recites: every token of a cycle is followed by the next.
fn reciting(speculation: Option<SpeculationConfig>) -> TestEngine {
    let cycle: Vec<u32> = (1..=20).chain([1]).collect();
    let model = model().with_successors(&cycle);
    let mut config = config();
    config.speculation = speculation;
    EngineBuilder::new(Arc::new(model), cache(200), config).build()
}

fn recite(engine: &mut TestEngine, clients: u32) -> Vec<Told> {
    let handle = engine.handle();
    let prompt: Vec<u32> = (1..=20).chain(1..=5).collect();
    let clients: Vec<Client> = (0..clients)
        .map(|i| {
            let prompt = [vec![50 + i], prompt.clone()].concat();
            let mut params = sampled(60, 1);
            params.logprobs = Some(1);
            submit(&handle, request(&prompt, params))
        })
        .collect();
    run(engine);
    clients.iter().map(Client::told).collect()
}

#[test]
fn what_repeats_itself_takes_fewer_passes() {
    let mut plain = reciting(None);
    let mut guessing = reciting(Some(SpeculationConfig::default()));
    let (expected, told) = (recite(&mut plain, 1), recite(&mut guessing, 1));
    assert_eq!(told[0].steps, expected[0].steps);
    assert_eq!(told[0].end, expected[0].end);
    let (plain, guessing) = (plain.handle().stats(), guessing.handle().stats());
    assert!(guessing.accepted_tokens > 30, "{guessing:?}");
    assert!(guessing.steps * 2 < plain.steps, "{} passes, {} without", guessing.steps, plain.steps);
}

#[test]
fn under_load_nobody_guesses() {
    let speculation = SpeculationConfig { max_sequences: 2, ..SpeculationConfig::default() };
    let mut engine = reciting(Some(speculation));
    let told = recite(&mut engine, 3);
    assert_eq!(engine.handle().stats().drafted_tokens, 0);
    assert_eq!(told, recite(&mut reciting(None), 3));
}
