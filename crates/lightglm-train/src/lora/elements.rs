//! Elements of stored tensors, to f32 and back.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use bytes::Bytes;
use half::{bf16, f16};
use lightglm_core::{TensorView, WeightDtype};

/// The elements in `bytes`, in their order; they need not be aligned.
pub(crate) fn to_f32(dtype: WeightDtype, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        WeightDtype::F32 => {
            let words = bytes.chunks_exact(4);
            words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        WeightDtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        WeightDtype::Bf16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
    }
}

/// `values` as a file of `dtype` has them, each rounded to nearest, written to `out`, which has their room.
pub(crate) fn round_into(dtype: WeightDtype, values: &[f32], out: &mut [u8]) {
    match dtype {
        WeightDtype::F32 => {
            for (out, value) in out.chunks_exact_mut(4).zip(values) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        WeightDtype::F16 => {
            for (out, value) in out.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
            }
        }
        WeightDtype::Bf16 => {
            for (out, value) in out.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// `view` as a tensor of its own precision, or of f32 where the device has no arithmetic for that. A copy: an
/// adapter's file may be replaced while it is in use.
pub(super) fn tensor<B: Backend>(view: &TensorView, device: &B::Device) -> Tensor<B, 2> {
    let shape = view.shape.clone();
    let pairs = || view.bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    let (dtype, data) = match view.dtype {
        WeightDtype::F16 if B::supports_dtype(device, DType::F16) => {
            let values: Vec<f16> = pairs().map(f16::from_le_bytes).collect();
            (DType::F16, TensorData::new(values, shape))
        }
        WeightDtype::Bf16 if B::supports_dtype(device, DType::BF16) => {
            let values: Vec<bf16> = pairs().map(bf16::from_le_bytes).collect();
            (DType::BF16, TensorData::new(values, shape))
        }
        dtype => (DType::F32, TensorData::new(to_f32(dtype, &view.bytes), shape)),
    };
    Tensor::from_data(data, (device, dtype))
}

/// `view` in `dtype`; the same bytes where it is in it already.
pub(super) fn converted(view: TensorView, dtype: WeightDtype) -> TensorView {
    if view.dtype == dtype {
        return view;
    }
    let values = to_f32(view.dtype, &view.bytes);
    let mut bytes = vec![0; values.len() * dtype.size()];
    round_into(dtype, &values, &mut bytes);
    TensorView { dtype, shape: view.shape, bytes: Bytes::from(bytes) }
}
