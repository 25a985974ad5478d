//! Projections with f32 and bf16 weights, beside the bandwidth (few tokens) and the multiply-add peak
//! (many).

use half::bf16;
use lightglm_kernels::cpu::{self, Isa, Weights, roofs, team};

use crate::Extent;
use crate::best_times::{best, best_of_parts};

/// `(out_features, in_features)` of a layer of the mid shape.
const LAYER: [(usize, usize); 4] = [(1024, 1024), (256, 1024), (6848, 1024), (1024, 3424)];

/// The instruction sets to measure, the fastest first: `LIGHTGLM_ISA`, or all but the scalar one.
pub(crate) fn instruction_sets() -> Vec<Isa> {
    let name = std::env::var("LIGHTGLM_ISA").ok();
    let wanted = |isa: &Isa| name.as_ref().map_or(isa.name() != "scalar", |n| isa.name() == n);
    Isa::available().into_iter().rev().filter(wanted).collect()
}

/// 350 M weights of bf16, layer after layer.
pub(crate) fn gemv(extent: Extent) {
    let per_layer: usize = LAYER.iter().map(|(n, k)| n * k).sum();
    let layers = 350_000_000 / per_layer;
    let weights = vec![bf16::from_f32(0.01); layers * per_layer];
    let x = vec![0.5f32; 3424];
    let mut y = vec![0.0f32; 6848];
    for isa in extent.of(&instruction_sets()) {
        for &tokens in extent.of(&[1, 2, 4, 8, 16, 64]) {
            let xs = x.repeat(tokens);
            y.resize(6848 * tokens, 0.0);
            let roof = roofs::read_bandwidth_gbs(team::num_threads());
            let seconds = isa.run(|| {
                best_of_parts(extent.rounds(6), layers, |layer| {
                    let mut at = layer * per_layer;
                    for (n, k) in LAYER {
                        let w = Weights::Bf16(&weights[at..at + n * k]);
                        cpu::linear(&xs[..tokens * k], w, [n, k], None, &mut y[..tokens * n]);
                        at += n * k;
                    }
                })
            });
            let speed = 2.0 * weights.len() as f64 / seconds / 1e9;
            println!(
                "{} {tokens} tokens: {speed:.1} of {roof:.1} GB/s ({:.0} %), {:.0} GFLOP/s",
                isa.name(),
                100.0 * speed / roof,
                speed * tokens as f64
            );
        }
    }
}

/// 512 tokens.
pub(crate) fn gemm(extent: Extent) {
    let t = 512;
    let shapes = [(1024, 1024), (6848, 1024), (1024, 3424), (32768, 1024), (4096, 13696)];
    for isa in extent.of(&instruction_sets()) {
        for &(n, k) in extent.of(&shapes) {
            let x = vec![0.5f32; t * k];
            let w16 = vec![bf16::from_f32(0.01); n * k];
            let w32 = vec![0.01f32; n * k];
            let mut y = vec![0.0f32; t * n];
            let roof = isa.run(|| roofs::f32_fma_gflops(team::num_threads()));
            for (name, w) in [("f32", Weights::F32(&w32)), ("bf16", Weights::Bf16(&w16))] {
                let seconds = isa.run(|| best(4, || cpu::linear(&x, w, [n, k], None, &mut y)));
                let speed = 2.0 * (t * n * k) as f64 / seconds / 1e9;
                println!(
                    "{} {n} x {k} {name}: {speed:.0} of {roof:.0} GFLOP/s ({:.0} %)",
                    isa.name(),
                    100.0 * speed / roof
                );
            }
        }
    }
}
