//! What this machine can do at most: the denominators of every performance number.
//!
//! Each function takes a few tenths of a second and returns the best of several passes, since
//! everything that disturbs a measurement makes it smaller.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::isa::{Isa, kernel};
use super::simd::{LANES, Simd};

mod int8;

pub use int8::int8_dot_gops;

/// Bytes of the buffer that [`read_bandwidth_gbs`] streams, all threads together: more than the
/// last-level caches of nearly all machines.
const BUFFER: usize = 512 << 20;
/// Pieces of the buffer, timed one by one.
const PIECES: usize = 16;

/// Read bandwidth of the memory in GB/s (10^9 bytes), with `threads` threads.
///
/// Streams 512 MiB that were written before, several times, with plain vector loads.
pub fn read_bandwidth_gbs(threads: usize) -> f64 {
    let isa = Isa::current();
    let threads = threads.max(1);
    let len = BUFFER / size_of::<f32>() / threads / PIECES / 64 * 64;
    let best = best_seconds(threads, 4 * PIECES, |pass, buffer: &mut Vec<f32>| {
        buffer.resize(len * PIECES, 1.0);
        let piece = &buffer[pass % PIECES * len..][..len];
        // SAFETY: the length is a multiple of 64.
        black_box(unsafe { sum(isa, black_box(piece)) });
    });
    (len * threads * size_of::<f32>()) as f64 / best / 1e9
}

/// A buffer to stream between other measurements.
///
/// On a shared machine the bandwidth changes within seconds, so that a roof measured once before a
/// long measurement says little about it. Reading a `ReadStream` in turns with what is measured
/// gives both the same weather.
#[derive(Debug)]
pub struct ReadStream {
    buffer: Vec<f32>,
}

impl ReadStream {
    /// Elements that a thread takes at a time: 1 MiB.
    const CHUNK: usize = 1 << 18;

    /// A stream of at least `bytes` bytes, whole MiB.
    pub fn new(bytes: usize) -> Self {
        let chunks = bytes.div_ceil(size_of::<f32>() * Self::CHUNK).max(1);
        Self { buffer: vec![1.0; chunks * Self::CHUNK] }
    }

    /// Bytes that one [`ReadStream::read`] reads.
    pub fn size_in_bytes(&self) -> usize {
        size_of_val(&self.buffer[..])
    }

    /// Reads all of it once with the team's threads; returns the seconds it took.
    pub fn read(&self) -> f64 {
        let isa = Isa::current();
        let start = Instant::now();
        super::team::parallel_for(self.buffer.len() / Self::CHUNK, |chunk| {
            let chunk = &self.buffer[chunk * Self::CHUNK..][..Self::CHUNK];
            // SAFETY: the length is a multiple of 64.
            black_box(unsafe { sum(isa, black_box(chunk)) });
        });
        start.elapsed().as_secs_f64()
    }
}

/// Peak of f32 fused multiply-add in GFLOP/s (two operations each), with `threads` threads, from
/// registers.
pub fn f32_fma_gflops(threads: usize) -> f64 {
    /// About 1 ms on a 512-bit machine.
    const ROUNDS: usize = 400_000;
    let isa = Isa::current();
    let threads = threads.max(1);
    // The portable implementation is some hundred times slower.
    let rounds = if isa.name() == "scalar" { ROUNDS / 200 } else { ROUNDS };
    let best = best_seconds(threads, 100, |_, (): &mut ()| {
        // SAFETY: nothing but the instruction set is asked for.
        black_box(unsafe { multiply_add(isa, black_box(rounds)) });
    });
    (rounds * CHAINS * LANES * 2 * threads) as f64 / best / 1e9
}

/// The best time of `passes` calls of `work` on `threads` threads that start together.
///
/// Passes should be about a millisecond long, so that on a busy machine some go undisturbed. The
/// threads are not those of the team: a roof must not depend on what it is a roof for.
fn best_seconds<D: Default>(
    threads: usize,
    passes: usize,
    work: impl Fn(usize, &mut D) + Sync,
) -> f64 {
    let origin = Instant::now();
    let arrived = AtomicUsize::new(0);
    let times: Vec<Vec<(Duration, Duration)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|_| {
                let (arrived, work) = (&arrived, &work);
                scope.spawn(move || {
                    let mut data = D::default();
                    // Not counted: it is where the data is made.
                    work(0, &mut data);
                    let timed = |pass| {
                        arrived.fetch_add(1, Ordering::AcqRel);
                        while arrived.load(Ordering::Acquire) < threads * (pass + 1) {
                            std::thread::yield_now();
                        }
                        let start = origin.elapsed();
                        work(pass, &mut data);
                        (start, origin.elapsed())
                    };
                    (0..passes).map(timed).collect()
                })
            })
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    (0..passes)
        .filter_map(|pass| {
            let start = times.iter().map(|t| t[pass].0).min()?;
            let end = times.iter().map(|t| t[pass].1).max()?;
            Some((end - start).as_secs_f64())
        })
        .fold(f64::INFINITY, f64::min)
}

/// Independent chains of fused multiply-adds, enough to hide the latency.
const CHAINS: usize = 6;

kernel! {
    /// The sum of a buffer.
    ///
    /// # Safety
    /// The length is a multiple of 64.
    unsafe fn sum(buffer: &[f32]) -> f32 = sum_on;
}

kernel! {
    /// `rounds` times [`CHAINS`] vector fused multiply-adds.
    ///
    /// # Safety
    /// None beyond the instruction set.
    unsafe fn multiply_add(rounds: usize) -> f32 = multiply_add_on;
}

#[inline(always)]
unsafe fn sum_on<S: Simd>(buffer: &[f32]) -> f32 {
    // SAFETY: the length is a multiple of 64.
    unsafe {
        let mut sums = [S::zero(); 4];
        for i in (0..buffer.len()).step_by(4 * LANES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(S::load(buffer.as_ptr().add(i + j * LANES)));
            }
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).reduce_add()
    }
}

#[inline(always)]
unsafe fn multiply_add_on<S: Simd>(rounds: usize) -> f32 {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (a, b) = (S::splat(black_box(0.999_999)), S::splat(black_box(1e-6)));
        let mut chains = [S::splat(1.0); CHAINS];
        for _ in 0..rounds {
            for chain in &mut chains {
                *chain = chain.fma(a, b);
            }
        }
        let mut sum = S::zero();
        for chain in chains {
            sum = sum.add(chain);
        }
        sum.reduce_add()
    }
}
