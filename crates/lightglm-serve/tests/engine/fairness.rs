//! Keys share the machine, however much each asks for.

use std::collections::HashMap;

use crate::harness::*;

/// Jain, Chiu and Hawe, "A Quantitative Measure of Fairness" (1984): 1 where all have the same.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Tokens that each key got while both had work, one of them asking for ten times as much.
fn served(heavy_load: usize, light_load: usize) -> HashMap<String, usize> {
    let mut config = config();
    (config.max_running, config.max_waiting) = (4, 1000);
    let mut engine = engine(config, 400);
    let handle = engine.handle();
    let mut seed = 0;
    let mut open: Vec<(String, Client)> = Vec::new();
    let mut done: HashMap<String, usize> = HashMap::new();
    for _ in 0..3000 {
        // Both keep so many requests in the queue.
        for (key, load) in [("heavy", heavy_load), ("light", light_load)] {
            while open.iter().filter(|(k, _)| k == key).count() < load {
                seed += 1;
                let mut request =
                    request(&prompt(10 + seed % 30, seed as u32), sampled(20, seed as u64));
                request.key = key.into();
                open.push((key.into(), submit(&handle, request)));
            }
        }
        engine.step();
        open.retain(|(key, client)| {
            if client.is_over() {
                *done.entry(key.clone()).or_default() += client.told().tokens().len();
            }
            !client.is_over()
        });
    }
    done
}

#[test]
fn ten_times_the_load_gets_no_more() {
    let done = served(100, 10);
    let shares: Vec<f64> = done.values().map(|&tokens| tokens as f64).collect();
    assert_eq!(shares.len(), 2);
    assert!(jain(&shares) >= 0.99, "{done:?}");
}

#[test]
fn what_one_leaves_another_may_have() {
    // The light key never has more than one request: it gets its one slot, the heavy one the rest.
    let done = served(40, 1);
    assert!(done["heavy"] > 2 * done["light"], "{done:?}");
    assert!(done["light"] * 5 > done["heavy"], "{done:?}");
}
