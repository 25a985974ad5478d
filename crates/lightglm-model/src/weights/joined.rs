//! Tensors that are made of several parts of a file.

use bytes::Bytes;
use lightglm_core::{StoredTensor, TensorView};
use lightglm_kernels::page_out;

/// The parts of `stored` one behind the other, copied out of `views` of the file, at least one and all of one type.
pub(super) fn joined(stored: StoredTensor, views: &[TensorView]) -> TensorView {
    let mut bytes = Vec::with_capacity(stored.parts.iter().map(Bytes::len).sum());
    for part in &stored.parts {
        bytes.extend_from_slice(part);
    }
    // What was read of the file would count as memory beside the copy.
    for view in views {
        page_out(&view.bytes);
    }
    TensorView { dtype: views[0].dtype, shape: stored.shape, bytes: Bytes::from(bytes) }
}
