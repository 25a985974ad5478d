//! `SlicedLinear`. Shapes: `T` rows, `N` out_features, `K` in_features, `k` chosen inputs.

use burn::module::Module;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, backend::Backend};
use lightglm_core::{Linear, SliceError, SliceLinear};

/// A projection, or what was chosen of its outputs or inputs.
///
/// Where inputs cannot be cut out of the weight, the short activations are spread over the whole width
/// with zeros in between, for a kernel that leaves zeros out; the result has the bits of the whole
/// projection with [`KeptChannels`](crate::KeptChannels) before it.
#[derive(Module, Debug)]
pub struct SlicedLinear<B: Backend, L: Module<B>> {
    /// The projection, cut down as far as it can be.
    pub inner: L,
    /// `[k]`: which of `inner`'s inputs are given, where they are not all.
    inputs: Option<Tensor<B, 1, Int>>,
}

impl<B: Backend, L: Linear<B>> SlicedLinear<B, L> {
    /// All of `linear`.
    pub fn whole(linear: L) -> Self {
        Self { inner: linear, inputs: None }
    }
}

impl<B: Backend, L: SliceLinear<B>> SlicedLinear<B, L> {
    /// The outputs `outputs` of `linear`.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    pub fn outputs(linear: &L, outputs: &[usize]) -> Result<Self, SliceError> {
        linear.slice_outputs(outputs).map(Self::whole)
    }

    /// The projection of the inputs `inputs` of `linear`, the others being zero: `x: [T, k]`.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    pub fn inputs(linear: &L, inputs: &[usize], device: &B::Device) -> Result<Self, SliceError> {
        if let Some(inner) = linear.slice_inputs(inputs)? {
            return Ok(Self::whole(inner));
        }
        let [_, width] = linear.shape();
        SliceError::check("input", inputs, width)?;
        let indices: Vec<i64> = inputs.iter().map(|&input| input as i64).collect();
        let data = TensorData::new(indices, [inputs.len()]);
        Ok(Self { inner: linear.clone(), inputs: Some(Tensor::from_data(data, device)) })
    }
}

impl<B: Backend, L: Linear<B>> Linear<B> for SlicedLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(inputs) = &self.inputs else { return self.inner.forward(x) };
        let ([rows, _], [_, width]) = (x.dims(), self.inner.shape());
        let zeros = Tensor::zeros([rows, width], &x.device());
        self.inner.forward(zeros.select_assign(1, inputs.clone(), x, IndexingUpdateOp::Add))
    }

    fn shape(&self) -> [usize; 2] {
        let [n, k] = self.inner.shape();
        [n, self.inputs.as_ref().map_or(k, |inputs| inputs.dims()[0])]
    }

    /// Of all of [`Self::inner`]: what a kernel reads less where zeros were put is not counted.
    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}
