//! What is saved where activations are zero: packed weights channel by channel, beside the dense
//! product and a stream of the bytes that remain.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::cpu::roofs;
use lightglm_kernels::{
    ActivationBits, ActivationFormat, CodeOrder, LmBackend, PackedMatrix, QuantizedMatrix,
    ScaleDtype, WeightBits,
};
use lightglm_testkit::SplitMix;

use crate::Extent;
use crate::best_times::best_in_turns;

const SHAPES: [[usize; 2]; 7] = [
    [1024, 1024],
    [6848, 1024],
    [1024, 3424],
    [4096, 4096],
    [27392, 4096],
    [4096, 13696],
    [256, 4096],
];

fn packed([n, k]: [usize; 2], bits: WeightBits) -> PackedMatrix<Flex> {
    let group_size = 64.min(k);
    let scales = n * k.div_ceil(group_size);
    let plain = QuantizedMatrix {
        shape: [n, k],
        bits,
        group_size,
        codes: (0..n * k).map(|i| (i * 7 % 16) as u8).collect(),
        scales: vec![0.01; scales],
        minimums: None,
    };
    let activation = ActivationFormat { bits: ActivationBits::Eight, group_size: Some(64) };
    PackedMatrix::pack(&plain, ScaleDtype::F16, activation, &FlexDevice).expect("fits")
}

/// `[1, k]`, of which `zeros` in a hundred are zero.
fn activations(k: usize, zeros: usize) -> Tensor<Flex, 2> {
    let mut rng = SplitMix::new(5);
    let value = |_| if rng.below(100) < zeros { 0.0 } else { rng.next_f32() + 1.5 };
    let values: Vec<f32> = (0..k).map(value).collect();
    Tensor::from_data(TensorData::new(values, [1, k]), &FlexDevice)
}

/// One token, groups of 64.
pub(crate) fn zeros(extent: Extent) {
    for &bits in extent.of(&[WeightBits::Eight, WeightBits::Four]) {
        for &[n, k] in extent.of(&SHAPES) {
            let bytes = packed([n, k], bits).bytes();
            let copies = (240 << 20) / bytes + 1;
            let panels: Vec<_> = (0..copies).map(|_| packed([n, k], bits)).collect();
            let channels: Vec<_> =
                panels.iter().map(|m| m.clone().with_order(CodeOrder::Channels)).collect();
            for zeros in [0, 40, 50, 70] {
                let x = activations(k, zeros);
                let active = x.clone().not_equal_elem(0.0).int().sum().into_scalar() as f64;
                let codes = (n * k * bits.count() / 8) as f64;
                let reduced = codes * active / k as f64 + (bytes as f64 - codes);
                let stream = roofs::ReadStream::new((reduced * copies as f64) as usize);
                // The copies together are one part: the stream is long, as they are.
                let all = |matrices: &[PackedMatrix<Flex>]| {
                    matrices.iter().for_each(|m| drop(Flex::project_packed(x.clone(), m, None)));
                };
                let times = best_in_turns(
                    extent.rounds(6),
                    1,
                    [&|_| all(&panels), &|_| all(&channels), &|_| _ = stream.read()],
                );
                let [dense, sparse, roof] = times.map(|seconds| seconds * 1e6 / copies as f64);
                println!(
                    "{bits:?} {n:>5}x{k:<5} {zeros:>2} % zeros: dense {dense:7.0} us, channels \
                     {sparse:7.0} us, {:.2}x, roof of reduced bytes {roof:7.0} us, {:.0} %",
                    dense / sparse,
                    100.0 * roof / sparse
                );
            }
        }
    }
}
