//! The matrix products of training, `x W^T`, `grad W` and `grad^T x`, beside burn's (the `gemm` crate)
//! and the multiply-add peak.
//!
//! burn's product includes the allocation of its result, as ours does where it is called into new
//! memory.

use std::cell::RefCell;
use std::hint::black_box;

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::{MatrixRef, Weights, product, product_to_vec, roofs, team};
use lightglm_testkit::SplitMix;

use crate::Extent;
use crate::best_times::best_in_turns;

/// `(m, k, n)`.
const SHAPES: [[usize; 3]; 12] = [
    [2048, 256, 1536],
    [2048, 768, 256],
    [2048, 256, 512],
    [2048, 256, 4096],
    [256, 2048, 1536],
    [512, 1024, 6848],
    [512, 6848, 1024],
    [512, 3424, 1024],
    [512, 512, 512],
    [128, 1024, 1024],
    [2048, 256, 8],
    [8, 2048, 256],
];

/// `[rows, columns]` of `values`, which lie transposed or not.
fn ours(values: &[f32], [rows, columns]: [usize; 2], transposed: bool) -> MatrixRef<'_> {
    match transposed {
        true => MatrixRef::new(Weights::F32(values), [columns, rows]).transposed(),
        false => MatrixRef::new(Weights::F32(values), [rows, columns]),
    }
}

/// The same as a tensor.
fn burns(values: &[f32], [rows, columns]: [usize; 2], transposed: bool) -> Tensor<Flex, 2> {
    let of = |shape: [usize; 2]| {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&FlexDevice, DType::F32))
    };
    if transposed { of([columns, rows]).transpose() } else { of([rows, columns]) }
}

pub(crate) fn beside_burn(extent: Extent) {
    let roof = roofs::f32_fma_gflops(team::num_threads());
    println!("multiply-add peak {roof:.0} GFLOP/s");
    let mut rng = SplitMix::new(1);
    for &[m, k, n] in extent.of(&SHAPES) {
        let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.next_f32()).collect() };
        let (a, b) = (random(m * k), random(k * n));
        let layouts = [("x W^T", false, true), ("grad W", false, false), ("grad^T x", true, false)];
        for (name, a_transposed, b_transposed) in layouts {
            let (left, right) = (ours(&a, [m, k], a_transposed), ours(&b, [k, n], b_transposed));
            let burn = (burns(&a, [m, k], a_transposed), burns(&b, [k, n], b_transposed));
            let c = RefCell::new(vec![0.0; m * n]);
            let flops = (2 * m * k * n) as f64;
            let rounds = ((2e10 / flops) as usize).clamp(10, 200);
            let times = best_in_turns(
                extent.rounds(rounds),
                1,
                [
                    &|_| product(left, right, &mut c.borrow_mut(), false),
                    &|_| drop(black_box(product_to_vec(left, right))),
                    &|_| drop(black_box(burn.0.clone().matmul(burn.1.clone()))),
                ],
            );
            let [ours, new, theirs] = times.map(|seconds| flops / seconds / 1e9);
            println!(
                "{m:>5}x{k:<5}x{n:<5} {name:<9} {ours:6.1} GFLOP/s ({:.0} %), into new memory \
                 {new:6.1}, burn {theirs:6.1} ({:.0} %)",
                100.0 * ours / roof,
                100.0 * theirs / roof
            );
        }
    }
}
