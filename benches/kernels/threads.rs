//! What the threads cost and what the machine allows: the roofs of the other sections.

use std::sync::atomic::{AtomicUsize, Ordering};

use lightglm_kernels::cpu::{roofs, team};

use crate::Extent;
use crate::best_times::best;

/// Two tasks that wait for each other: the whole way there and back.
pub(crate) fn fork_join(extent: Extent) {
    let threads = team::num_threads();
    team::set_num_threads(2);
    let seconds = best(extent.rounds(50), || {
        for _ in 0..100 {
            let inside = AtomicUsize::new(0);
            team::parallel_for(2, |_| {
                inside.fetch_add(1, Ordering::AcqRel);
                while inside.load(Ordering::Acquire) < 2 {
                    std::hint::spin_loop();
                }
            });
        }
    });
    team::set_num_threads(threads);
    println!("fork-join with 2 threads: {:.2} us", seconds / 100.0 * 1e6);
}

/// Bandwidth and arithmetic of one thread and of all.
pub(crate) fn peaks(_: Extent) {
    for threads in [1, team::num_threads()] {
        println!(
            "{threads} threads: read {:.1} GB/s, f32 FMA {:.0} GFLOP/s, int8 {:.0} GOP/s",
            roofs::read_bandwidth_gbs(threads),
            roofs::f32_fma_gflops(threads),
            roofs::int8_dot_gops(threads)
        );
    }
}
