//! The engine's inbox under every interleaving that shuttle finds: nothing is lost, nothing is counted
//! twice, nobody sleeps for ever.

mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../src/engine/inbox.rs"]
#[allow(dead_code)]
mod inbox;

use shuttle::sync::Arc;
use shuttle::thread;

use inbox::{Inbox, InboxLimits, Refusal, Wake};

fn inbox(max_waiting: usize, max_open_per_key: Option<usize>) -> Arc<Inbox<u32>> {
    Arc::new(Inbox::new(InboxLimits { max_waiting, max_open_per_key }))
}

/// An engine that starts and ends everything that arrives, until it is drained.
fn engine(inbox: &Inbox<u32>) -> Vec<u32> {
    let mut seen = Vec::new();
    loop {
        for item in inbox.take() {
            inbox.started();
            seen.push(item);
            inbox.ended(&(item % 2).to_string(), false);
        }
        if inbox.wait() == Wake::Drained {
            // What came between the last look and the draining is still taken.
            let rest = inbox.take();
            if rest.is_empty() {
                return seen;
            }
            seen.extend(rest);
        }
    }
}

#[test]
fn what_is_accepted_arrives_once() {
    let scenario = || {
        let inbox = inbox(2, None);
        let worker = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || engine(&inbox))
        };
        let clients: Vec<_> = (0..3u32)
            .map(|client| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    let items = [client * 2, client * 2 + 1];
                    let accepted = |item: &u32| inbox.offer(&(item % 2).to_string(), *item).is_ok();
                    items.into_iter().filter(accepted).collect::<Vec<u32>>()
                })
            })
            .collect();
        let mut accepted: Vec<u32> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
        inbox.drain();
        let mut seen = worker.join().unwrap();
        accepted.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, accepted);
        assert!(!accepted.is_empty());
        assert_eq!(inbox.offer("0", 9), Err(Refusal::Draining));
    };
    shuttle::check_random(scenario, 20_000);
    shuttle::check_pct(scenario, 5_000, 3);
}

#[test]
fn limits_hold_at_every_moment() {
    let scenario = || {
        let inbox = inbox(3, Some(1));
        let clients: Vec<_> = (0..4u32)
            .map(|client| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    let key = (client % 2).to_string();
                    let accepted = inbox.offer(&key, client).is_ok();
                    let (waiting, open) = inbox.counts();
                    assert!(waiting <= 3 && open <= 2, "{waiting} wait, {open} are open");
                    if accepted && client < 2 {
                        inbox.started();
                        inbox.ended(&key, false);
                    }
                    accepted
                })
            })
            .collect();
        let accepted = clients.into_iter().filter_map(|c| c.join().ok()).filter(|&ok| ok).count();
        assert!((2..=4).contains(&accepted), "{accepted}");
        let arrived = inbox.take();
        assert_eq!(arrived.len(), accepted);
        for item in arrived.into_iter().filter(|&item| item >= 2) {
            inbox.ended(&(item % 2).to_string(), true);
        }
        assert_eq!(inbox.counts(), (0, 0));
    };
    shuttle::check_random(scenario, 20_000);
}

#[test]
fn a_stopped_inbox_hands_back_what_nobody_took() {
    shuttle::check_random(
        || {
            let inbox = inbox(10, None);
            let client = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || (0..3).filter(|&i| inbox.offer("a", i).is_ok()).count())
            };
            let taken = inbox.take().len() + inbox.stop().len();
            assert_eq!(client.join().unwrap(), taken);
            assert!(inbox.is_stopped());
        },
        20_000,
    );
}
