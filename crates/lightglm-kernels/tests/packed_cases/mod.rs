//! Random packed matrices, and results on every instruction set.
#![allow(dead_code, reason = "each test uses its part")]

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use half::f16;
use lightglm_kernels::cpu::{DotIsa, PackedWeights, Scales, team};
use lightglm_kernels::{
    ActivationFormat, CodeOrder, PackedMatrix, QuantizedMatrix, ScaleDtype, WeightBits,
};

#[path = "../random/mod.rs"]
mod random;

pub(crate) use random::Rng;

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs `work` on every instruction set and on 1, 2, 3 and 5 threads, asserts that all results have
/// the same bits, and returns one.
pub(crate) fn everywhere(what: &str, work: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let expected = DotIsa::available()[0].run(&work);
    for isa in DotIsa::available() {
        for threads in [1, 2, 3, 5] {
            team::set_num_threads(threads);
            let actual = isa.run(&work);
            let first = bits(&actual).iter().zip(bits(&expected)).position(|(a, b)| *a != b);
            assert!(
                first.is_none(),
                "{what}: {} with {threads} threads differs at {first:?}: {} and {}",
                isa.name(),
                actual[first.unwrap_or(0)],
                expected[first.unwrap_or(0)]
            );
        }
    }
    expected
}

pub(crate) fn random_matrix(
    shape: [usize; 2],
    bits: WeightBits,
    group: usize,
    minimums: bool,
    rng: &mut Rng,
) -> QuantizedMatrix {
    let [n, k] = shape;
    let group_size = group.min(k.max(1));
    let scales = n * k.div_ceil(group_size);
    let code = |rng: &mut Rng| (rng.next() % (u64::from(bits.largest()) + 1)) as u8;
    QuantizedMatrix {
        shape,
        bits,
        group_size,
        codes: (0..n * k).map(|_| code(rng)).collect(),
        scales: rng.vec(scales),
        minimums: minimums.then(|| rng.vec(scales)),
    }
}

/// `matrix` with scales, and minimums, that [`ScaleDtype::Nested`] holds: multiples of random units.
pub(crate) fn nested(mut matrix: QuantizedMatrix, rng: &mut Rng) -> QuantizedMatrix {
    let per_unit = ScaleDtype::NESTED_COLUMNS / matrix.group_size;
    let mut nest = |values: &mut Vec<f32>| {
        for values in values.chunks_exact_mut(per_unit) {
            let unit = f16::from_f32(rng.vec(1)[0]).to_f32();
            values.iter_mut().for_each(|value| *value = unit * (rng.next() % 256) as i8 as f32);
        }
    };
    nest(&mut matrix.scales);
    matrix.minimums.iter_mut().for_each(nest);
    matrix
}

/// The slices that the kernels take.
pub(crate) struct Packed {
    pub(crate) matrix: QuantizedMatrix,
    pub(crate) packed: PackedMatrix<Flex>,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: [Vec<f32>; 2],
    pub(crate) halves: [Vec<f16>; 2],
}

impl Packed {
    pub(crate) fn new(
        mut matrix: QuantizedMatrix,
        dtype: ScaleDtype,
        activation: ActivationFormat,
    ) -> Self {
        let packed =
            PackedMatrix::<Flex>::pack(&matrix, dtype, activation, &FlexDevice).expect("fits");
        matrix.round_scales(dtype);
        assert_eq!(packed.unpack(), matrix);
        Self::view(matrix, packed)
    }

    /// The same matrix with its codes in another order.
    pub(crate) fn of(other: &Self, order: CodeOrder) -> Self {
        Self::view(other.matrix.clone(), other.packed.clone().with_order(order))
    }

    pub(crate) fn view(matrix: QuantizedMatrix, packed: PackedMatrix<Flex>) -> Self {
        let codes = packed.codes.val().into_data().to_vec::<u8>().expect("u8");
        let floats = |x: Tensor<Flex, 1>| x.into_data().convert::<f32>().to_vec().expect("f32");
        let scales = [
            floats(packed.scales.val()),
            packed.minimums.as_ref().map_or(Vec::new(), |m| floats(m.val())),
        ];
        let halves = scales.clone().map(|x| x.into_iter().map(f16::from_f32).collect());
        Self { matrix, packed, codes, scales, halves }
    }

    pub(crate) fn weights(&self) -> PackedWeights<'_> {
        let format = *self.packed.format();
        let scales = |at: usize| match format.scale_dtype {
            ScaleDtype::F16 | ScaleDtype::Nested => Scales::F16(&self.halves[at]),
            ScaleDtype::F32 => Scales::F32(&self.scales[at]),
        };
        PackedWeights {
            shape: self.packed.shape(),
            format,
            codes: &self.codes,
            scales: scales(0),
            minimums: format.has_minimums.then(|| scales(1)),
        }
    }
}
