//! From a view of a checkpoint to a tensor on a device.
//!
//! On the CPU backend a tensor in its stored precision stays a view of the mapped file; anything else
//! is converted one tensor at a time.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{AllocationProperty, Bytes, DType, Tensor, TensorData, backend::Backend};
use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};
use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource, checked_tensor};
use lightglm_kernels::page_out;

/// The tensor `name` of a source in f32, so that no kernel converts it per call: what is small and no matrix.
///
/// # Errors
/// As [`checked_tensor`].
pub fn vector<B: Backend, const D: usize>(
    (source, file): (&dyn WeightSource, &Path),
    name: &str,
    shape: [usize; D],
    device: &B::Device,
) -> Result<Param<Tensor<B, D>>, WeightError> {
    let view = checked_tensor(source, file, name, &shape)?;
    Ok(Param::from_tensor(place(view, WeightDtype::F32, device)))
}

/// `view` in the precision `target`, or in f32 where the device has no arithmetic for that.
pub(super) fn place<B: Backend, const D: usize>(
    view: TensorView,
    target: WeightDtype,
    device: &B::Device,
) -> Tensor<B, D> {
    let target = match B::supports_dtype(device, burn_dtype(target)) {
        true => target,
        false => WeightDtype::F32,
    };
    let view = convert(view, target);
    let dtype = burn_dtype(view.dtype);
    let bytes = Bytes::from_shared(aligned(view.bytes, view.dtype), AllocationProperty::File);
    let data = TensorData { bytes, shape: view.shape.into(), dtype };
    Tensor::from_data(data, (device, dtype))
}

fn burn_dtype(dtype: WeightDtype) -> DType {
    match dtype {
        WeightDtype::F32 => DType::F32,
        WeightDtype::F16 => DType::F16,
        WeightDtype::Bf16 => DType::BF16,
    }
}

/// The same bytes where an element can be read; a copy where the file's header has an odd length.
fn aligned(bytes: bytes::Bytes, dtype: WeightDtype) -> bytes::Bytes {
    match (bytes.as_ptr().align_offset(dtype.size()), dtype) {
        (0, _) => bytes,
        (_, WeightDtype::F32) => own::<f32>(bytemuck::pod_collect_to_vec(&bytes)),
        (_, WeightDtype::F16 | WeightDtype::Bf16) => {
            own::<u16>(bytemuck::pod_collect_to_vec(&bytes))
        }
    }
}

/// The view in precision `target`; the same view where it is in it already.
fn convert(view: TensorView, target: WeightDtype) -> TensorView {
    use WeightDtype::{Bf16, F16, F32};
    let source = &view.bytes;
    let bytes = match (view.dtype, target) {
        (F32, F16) => map(source, |x: f32| f16::from_f32(x)),
        (F32, Bf16) => map(source, |x: f32| bf16::from_f32(x)),
        (F16, F32) => map(source, |x: f16| x.to_f32()),
        (F16, Bf16) => map(source, |x: f16| bf16::from_f32(x.to_f32())),
        (Bf16, F32) => map(source, |x: bf16| x.to_f32()),
        (Bf16, F16) => map(source, |x: bf16| f16::from_f32(x.to_f32())),
        (F32, F32) | (F16, F16) | (Bf16, Bf16) => return view,
    };
    TensorView { dtype: target, shape: view.shape, bytes }
}

/// Element by element, without a second buffer; `source` need not be aligned. What has been read
/// of a mapped file is given back piece by piece, so that it does not count beside the copy.
fn map<S: AnyBitPattern, T: NoUninit + Send>(source: &[u8], f: impl Fn(S) -> T) -> bytes::Bytes {
    const PIECE: usize = 16 << 20;
    let mut values = Vec::with_capacity(source.len() / size_of::<S>());
    for piece in source.chunks(PIECE) {
        let elements = piece.chunks_exact(size_of::<S>());
        values.extend(elements.map(|x| f(bytemuck::pod_read_unaligned(x))));
        page_out(piece);
    }
    own(values)
}

/// Bytes that own a vector of elements, aligned as they are.
pub(crate) fn own<T: NoUninit + Send>(values: Vec<T>) -> bytes::Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    bytes::Bytes::from_owner(Owner(values))
}
