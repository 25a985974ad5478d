//! Elements of stored tensors, whatever their alignment.

use std::ops::Range;

use burn::tensor::{AllocationProperty, Bytes, DType, Tensor, TensorData, backend::Backend};
use half::{bf16, f16};
use lightglm_core::{TensorView, WeightDtype};

/// All elements of a tensor as f32, in their order.
pub fn to_f32(view: &TensorView) -> Vec<f32> {
    floats(view, 0..view.shape[0])
}

/// Rows `rows` of a matrix `[N, K]` as f32.
pub(super) fn floats(view: &TensorView, rows: Range<usize>) -> Vec<f32> {
    let columns: usize = view.shape[1..].iter().product();
    let row_bytes = columns * view.dtype.size();
    let bytes = &view.bytes[rows.start * row_bytes..rows.end * row_bytes];
    match view.dtype {
        WeightDtype::F32 => read(bytes, |b: [u8; 4]| f32::from_le_bytes(b)),
        WeightDtype::F16 => read(bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        WeightDtype::Bf16 => read(bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
    }
}

fn read<const N: usize>(bytes: &[u8], float: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&element| float(element)).collect()
}

/// A bias, in f32.
pub(crate) fn bias_tensor<B: Backend>(view: &TensorView, device: &B::Device) -> Tensor<B, 1> {
    let values = floats(view, 0..view.shape[0]);
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

/// A tensor in its stored precision, or in f32 where the device has no arithmetic for that. On the
/// CPU it shares the view's bytes.
pub(crate) fn dense_tensor<B: Backend, const D: usize>(
    view: TensorView,
    device: &B::Device,
) -> Tensor<B, D> {
    let dtype = match view.dtype {
        WeightDtype::F32 => DType::F32,
        WeightDtype::F16 => DType::F16,
        WeightDtype::Bf16 => DType::BF16,
    };
    if !B::supports_dtype(device, dtype) {
        let values = floats(&view, 0..view.shape[0]);
        return Tensor::from_data(TensorData::new(values, view.shape), device);
    }
    let bytes = shared(view.bytes, view.dtype.size());
    Tensor::from_data(TensorData { bytes, shape: view.shape.into(), dtype }, (device, dtype))
}

/// The same bytes where elements of `size` bytes can be read; a copy where they are not aligned.
pub(crate) fn shared(bytes: bytes::Bytes, size: usize) -> Bytes {
    match (bytes.as_ptr().align_offset(size), size) {
        (0, _) => Bytes::from_shared(bytes, AllocationProperty::File),
        (_, 2) => Bytes::from_elems(bytemuck::pod_collect_to_vec::<u8, u16>(&bytes)),
        _ => Bytes::from_elems(bytemuck::pod_collect_to_vec::<u8, u32>(&bytes)),
    }
}
