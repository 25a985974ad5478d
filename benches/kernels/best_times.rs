//! The least time of several rounds.

use std::time::Instant;

/// Seconds that `work` takes: the least of `rounds`.
pub(crate) fn best(rounds: usize, mut work: impl FnMut()) -> f64 {
    best_of_parts(rounds, 1, |_| work())
}

/// The sum over `parts` of the least time of each in seconds, after `rounds` over all of them: by the
/// next round the caches have forgotten a part.
pub(crate) fn best_of_parts(rounds: usize, parts: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut times = vec![f64::INFINITY; parts];
    for _ in 0..rounds {
        for (part, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            work(part);
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    times.iter().sum()
}

/// Seconds that each of `works` takes for all `parts`: of each part the least of `rounds`, in which the
/// works take turns.
pub(crate) fn best_in_turns<const W: usize>(
    rounds: usize,
    parts: usize,
    works: [&dyn Fn(usize); W],
) -> [f64; W] {
    let mut best = vec![[f64::INFINITY; W]; parts];
    for _ in 0..rounds {
        for (i, work) in works.iter().enumerate() {
            for (part, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                work(part);
                best[i] = best[i].min(start.elapsed().as_secs_f64());
            }
        }
    }
    std::array::from_fn(|i| best.iter().map(|best| best[i]).sum())
}
