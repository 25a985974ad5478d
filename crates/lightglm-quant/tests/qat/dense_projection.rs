//! A projection of plain numbers, to be wrapped.

use burn::backend::Autodiff;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{EffectiveWeight, Linear};
use lightglm_kernels::LmBackend;
use lightglm_quant::{QuantizedScheme, Scheme};
use lightglm_testkit::SplitMix;

/// What trains.
pub(crate) type Train = Autodiff<Flex>;

#[derive(Module, Debug)]
pub(crate) struct DenseProjection<B: Backend> {
    pub(crate) weight: Param<Tensor<B, 2>>,
    pub(crate) bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: LmBackend> DenseProjection<B> {
    pub(crate) fn new(weight: Vec<f32>, shape: [usize; 2], bias: Option<Vec<f32>>) -> Self {
        let device = B::Device::default();
        let bias = bias.map(|bias| {
            Param::from_tensor(Tensor::from_data(TensorData::new(bias, [shape[0]]), &device))
        });
        Self { weight: Param::from_tensor(tensor(weight, shape)), bias }
    }

    pub(crate) fn random(shape: [usize; 2], bias: bool, seed: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let weight = numbers(&mut random, shape[0] * shape[1], 1.0);
        let bias = bias.then(|| numbers(&mut random, shape[0], 1.0));
        Self::new(weight, shape, bias)
    }
}

impl<B: LmBackend> Linear<B> for DenseProjection<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(x, self.weight.val(), self.bias())
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes_read(&self) -> usize {
        let [n, k] = self.shape();
        4 * (n * k + self.bias.as_ref().map_or(0, |_| n))
    }
}

impl<B: LmBackend> EffectiveWeight<B> for DenseProjection<B> {
    fn weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }

    fn bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(Param::val)
    }
}

/// Numbers in `-magnitude..magnitude`.
pub(crate) fn numbers(random: &mut SplitMix, count: usize, magnitude: f32) -> Vec<f32> {
    (0..count).map(|_| random.next_f32() * magnitude).collect()
}

pub(crate) fn tensor<B: Backend>(values: Vec<f32>, shape: [usize; 2]) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values, shape), &B::Device::default())
}

pub(crate) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

pub(crate) fn scheme(text: &str) -> Scheme {
    text.parse().unwrap()
}

pub(crate) fn quantized(text: &str) -> QuantizedScheme {
    match scheme(text) {
        Scheme::Quantized(scheme) => scheme,
        Scheme::Dense => panic!("{text} is dense"),
    }
}

pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, value| max.max(value.abs()))
}

/// The largest difference over the largest expected value.
pub(crate) fn error(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let differences: Vec<f32> = actual.iter().zip(expected).map(|(a, b)| a - b).collect();
    largest(&differences) / largest(expected).max(f32::MIN_POSITIVE)
}

pub(crate) const DEVICE: FlexDevice = FlexDevice;
