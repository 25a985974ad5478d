//! When requests are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::task::JoinSet;

use super::client::{Client, Outcome};
use super::prompts::Prompts;

/// How often it is looked at whether to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// So many clients, each of which asks again as soon as it is answered.
    Closed {
        /// How many.
        clients: usize,
    },
    /// As they come, whether or not the others have been answered: a Poisson process.
    Open {
        /// Requests a second.
        per_second: f64,
    },
}

/// Sends `requests` requests and returns what became of each, and the time it took.
///
/// A share `hang_up` of the clients hangs up at a random moment within `patience`.
pub async fn run(
    client: &Client,
    prompts: &Prompts,
    requests: u64,
    arrivals: Arrivals,
    hang_up: (f64, Duration),
    stop: &Arc<AtomicBool>,
    bar: &ProgressBar,
) -> (Vec<Outcome>, Duration) {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let one = {
        let (client, prompts, bar) = (client.clone(), prompts.clone(), bar.clone());
        move |index: u64| {
            let (client, prompts, bar) = (client.clone(), prompts.clone(), bar.clone());
            async move {
                let mut random = ChaCha8Rng::seed_from_u64(index ^ 0x5eed);
                let (share, patience) = hang_up;
                let leaves = unit(&mut random) < share;
                let after = leaves.then(|| patience.mul_f64(unit(&mut random)));
                let outcome = client.complete(&prompts.get(index), index, after).await;
                bar.inc(1);
                outcome
            }
        }
    };
    match arrivals {
        Arrivals::Closed { clients } => {
            for _ in 0..clients {
                let (next, one, stop) = (Arc::clone(&next), one.clone(), Arc::clone(stop));
                tasks.spawn(async move {
                    let mut outcomes = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= requests {
                            break;
                        }
                        outcomes.push(one(index).await);
                    }
                    outcomes
                });
            }
        }
        Arrivals::Open { per_second } => {
            let mut random = ChaCha8Rng::seed_from_u64(requests);
            let mut due = start;
            for index in 0..requests {
                while !stop.load(Ordering::Relaxed) && Instant::now() < due {
                    tokio::time::sleep_until(due.min(Instant::now() + STOP_POLL).into()).await;
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let one = one.clone();
                tasks.spawn(async move { vec![one(index).await] });
                // The gap of a Poisson process: exponential.
                due += Duration::from_secs_f64(-(1.0 - unit(&mut random)).ln() / per_second);
            }
        }
    }
    let mut outcomes = Vec::new();
    while let Some(done) = tasks.join_next().await {
        outcomes.extend(done.unwrap_or_default());
    }
    (outcomes, start.elapsed())
}

fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
