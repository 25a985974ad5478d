//! Dynamic sparse activation of whole models.

use lightglm_kernels::LmBackend;

use crate::error::Error;
use crate::model::{Loaded, Quantized, Sparsity};

pub(crate) fn sparse<B: LmBackend>(
    quantized: Quantized<B>,
    _: &Sparsity,
    device: &B::Device,
) -> Result<Loaded<B>, Error> {
    Ok((quantized, device).into())
}
