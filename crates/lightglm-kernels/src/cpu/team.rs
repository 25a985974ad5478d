//! `team`: a fork-join over threads that keep spinning for a little while.
//!
//! A decoded token has about a hundred and fifty parallel regions of 10 to 300 microseconds each, so
//! what a fork-join costs is what is left of the bandwidth. Workers look at one atomic word, spin
//! for some tens of microseconds after their last job, then yield, then sleep.
//!
//! A job does not wait for a worker that is late (asleep, or not scheduled on a busy machine): the
//! caller works through the tasks itself and waits only for workers that have joined.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps.
const SPIN: Duration = Duration::from_micros(100);

/// `Team::state` counts the workers inside of the current job in its low bits.
const INSIDE: u64 = 0xffff;
/// Set while the current job may be joined.
const OPEN: u64 = 1 << 16;
/// The lowest bit of the job's number, which fills the rest of the word.
const EPOCH: u64 = 1 << 17;
/// Threads at most, so that `INSIDE` cannot overflow.
const MAX_THREADS: usize = 1024;

/// One call of [`parallel_for`], on the stack of its caller.
struct Job {
    /// The caller's closure, its lifetime erased.
    run: *const (dyn Fn(usize) + Sync),
    tasks: usize,
    next: CacheLine<AtomicUsize>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Keeps what every thread writes to away from what every thread reads.
#[repr(align(128))]
struct CacheLine<T>(T);

struct Team {
    /// Job number, `OPEN`, number of workers inside.
    state: CacheLine<AtomicU64>,
    /// The current job; valid while `state` is open or has a worker inside.
    job: AtomicPtr<Job>,
    /// Held by the caller whose job it is.
    busy: AtomicBool,
    /// Threads that take part, the caller included.
    threads: AtomicUsize,
    /// Workers that are asleep or about to be.
    sleepers: AtomicUsize,
    /// Which workers exist, by index; the caller is 0 and has no entry.
    workers: Mutex<Vec<bool>>,
    wake: Condvar,
}

thread_local! {
    /// Whether this thread runs a task now, so that a nested call must not wait for the team.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let team = TEAM.get_or_init(|| Team {
        state: CacheLine(AtomicU64::new(0)),
        job: AtomicPtr::new(std::ptr::null_mut()),
        busy: AtomicBool::new(false),
        threads: AtomicUsize::new(1),
        sleepers: AtomicUsize::new(0),
        workers: Mutex::new(Vec::new()),
        wake: Condvar::new(),
    });
    STARTED.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        team.resize(threads);
    });
    team
}

/// Sets how many threads, the caller included, take part in [`parallel_for`] from now on.
///
/// 0 counts as 1. Until the first call it is [`std::thread::available_parallelism`]. If the
/// operating system refuses a thread, there are fewer.
pub fn set_num_threads(threads: usize) {
    team().resize(threads);
}

/// How many threads, the caller included, take part in [`parallel_for`].
pub fn num_threads() -> usize {
    team().threads.load(Ordering::Relaxed)
}

/// Calls `task(0)`, ..., `task(tasks - 1)`, each once, in no particular order, on the threads of the
/// team and the calling thread, and returns when all have returned.
///
/// A call from inside a task, or while another thread's job is running, runs its tasks one after
/// the other on the calling thread.
///
/// # Panics
/// With the first panic among the tasks, after every running task has ended; tasks that have not
/// started by then are left out.
pub fn parallel_for<F: Fn(usize) + Sync>(tasks: usize, task: F) {
    let team = team();
    let alone = tasks <= 1 || team.threads.load(Ordering::Relaxed) == 1 || IN_TASK.get();
    if alone || team.busy.swap(true, Ordering::Acquire) {
        (0..tasks).for_each(task);
        return;
    }
    let panic = team.run(&task, tasks);
    team.busy.store(false, Ordering::Release);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

impl Team {
    /// Publishes the job, works on it, and waits for those who joined. `busy` must be held.
    fn run<'a>(
        &self,
        task: &'a (dyn Fn(usize) + Sync + 'a),
        tasks: usize,
    ) -> Option<Box<dyn Any + Send>> {
        // SAFETY: only the lifetime changes. The pointer is followed by this thread and by workers
        // counted in `state`, and this function does not return before that count is zero and the
        // job is closed, so never after 'a.
        let run = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + 'a),
                *const (dyn Fn(usize) + Sync + 'static),
            >(task)
        };
        let job = Job { run, tasks, next: CacheLine(AtomicUsize::new(0)), panic: Mutex::new(None) };
        self.job.store((&raw const job).cast_mut(), Ordering::Relaxed);
        // Closed and empty since the last job ended, so only the number and the bit change. The
        // store to `state` publishes the one to `job`; sequentially consistent because of `sleepers`.
        let state = self.state.0.load(Ordering::Relaxed);
        self.state.0.store((state & !(INSIDE | OPEN)).wrapping_add(EPOCH) | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.wake.notify_all();
        }
        job.work();
        // From here on nobody joins; release/acquire pairs with the workers' `fetch_sub`.
        self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.state.0.load(Ordering::Acquire) & INSIDE != 0 {
            pause(&mut spins);
        }
        job.panic.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life.
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            let Some(state) = self.wait_for_job(index, seen) else { return };
            let joined = self.state.0.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if joined.is_ok() {
                seen = state & !(INSIDE | OPEN);
                // SAFETY: this worker is counted as inside of an open job, so the caller, who owns
                // the job, waits for the `fetch_sub` below; the pointer was published before the
                // state that the exchange acquired.
                unsafe { (*self.job.load(Ordering::Relaxed)).work() };
                self.state.0.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Waits for an open job other than number `seen`. `None` tells the worker to end.
    fn wait_for_job(&self, index: usize, seen: u64) -> Option<u64> {
        let fresh = |state: u64| state & OPEN != 0 && state & !(INSIDE | OPEN) != seen;
        let mut spins = 0u32;
        let mut since = None;
        loop {
            let state = self.state.0.load(Ordering::Acquire);
            if fresh(state) {
                return Some(state);
            }
            pause(&mut spins);
            // Looking at the clock costs more than looking at the state.
            if !spins.is_multiple_of(64) || since.get_or_insert_with(Instant::now).elapsed() < SPIN
            {
                continue;
            }
            let mut workers = self.lock();
            if index >= self.threads.load(Ordering::Relaxed) {
                workers[index] = false;
                return None;
            }
            // Announce first, look again after: the caller publishes first and looks after.
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            if !fresh(self.state.0.load(Ordering::SeqCst)) {
                workers = self.wake.wait(workers).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            drop(workers);
            since = None;
        }
    }

    fn resize(&'static self, threads: usize) {
        let threads = threads.clamp(1, MAX_THREADS);
        let mut workers = self.lock();
        if workers.len() < threads {
            workers.resize(threads, false);
        }
        let mut running = threads;
        for index in 1..threads {
            if workers[index] {
                continue;
            }
            let builder = std::thread::Builder::new().name(format!("lightglm-{index}"));
            if builder.spawn(move || self.serve(index)).is_err() {
                running = index;
                break;
            }
            workers[index] = true;
        }
        self.threads.store(running, Ordering::Relaxed);
        drop(workers);
        // Those who are no longer wanted sleep; they look at `threads` when they wake.
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<bool>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Claims and runs tasks until there are none left.
    fn work(&self) {
        let outer = IN_TASK.replace(true);
        // SAFETY: whoever calls this keeps the job's caller from returning (see `Team::run`).
        let run = unsafe { &*self.run };
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.0.fetch_add(1, Ordering::Relaxed);
                if index >= self.tasks {
                    break;
                }
                run(index);
            }
        }));
        IN_TASK.set(outer);
        if let Err(payload) = result {
            // No more tasks are claimed. (The sum stays far below an overflow: each thread adds one.)
            self.next.0.store(self.tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(payload);
        }
    }
}

/// Spins, and lets others run where it takes long.
fn pause(spins: &mut u32) {
    *spins = spins.wrapping_add(1);
    if spins.is_multiple_of(1024) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thread counts are global, so tests that set them take turns.
    static TURN: Mutex<()> = Mutex::new(());

    fn each_once(tasks: usize) {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        parallel_for(tasks, |i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_task_runs_once_whatever_the_thread_count() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = num_threads();
        for threads in [1, 2, 5, 3, 1, 0, 4] {
            set_num_threads(threads);
            assert_eq!(num_threads(), threads.max(1));
            for tasks in [0, 1, 2, 3, 17, 1000] {
                each_once(tasks);
            }
        }
        set_num_threads(before);
    }

    #[test]
    fn sleeping_workers_come_back() {
        for _ in 0..5 {
            each_once(100);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn many_callers_at_once() {
        std::thread::scope(|scope| {
            for caller in 0..6 {
                scope.spawn(move || {
                    (0..if cfg!(miri) { 5 } else { 300 }).for_each(|i| each_once(caller + i % 7))
                });
            }
        });
    }

    #[test]
    fn calls_nest() {
        let count = AtomicUsize::new(0);
        parallel_for(8, |_| {
            parallel_for(8, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 64);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = num_threads();
        for threads in [1, 3] {
            set_num_threads(threads);
            for bad in [0, 1, 63] {
                let caught = catch_unwind(|| {
                    parallel_for(64, |i| assert!(i != bad, "task {i}"));
                });
                let payload = caught.expect_err("the panic comes through");
                let message = payload.downcast_ref::<String>().expect("a formatted message");
                assert_eq!(*message, format!("task {bad}"));
                each_once(64);
            }
        }
        set_num_threads(before);
    }

    #[test]
    fn changing_the_thread_count_while_others_work() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = num_threads();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..if cfg!(miri) { 5 } else { 500 }).for_each(|_| each_once(9)));
            (0..40).for_each(|i| set_num_threads(1 + i % 4));
        });
        set_num_threads(before);
    }
}
