//! `copy_block`: the contents of one block of a pool, once more.

use burn::tensor::{BasicOps, Tensor, backend::Backend};
use lightglm_core::KvLayer;

/// Makes block `to` of a layer's pool hold what block `from` holds.
///
/// # Panics
/// Where the pool does not have these blocks.
pub(super) fn copy_block<B: Backend>(layer: &mut KvLayer<B>, from: u32, to: u32) {
    match layer {
        KvLayer::Float(layer) => {
            copy_row(&mut layer.keys, from, to);
            copy_row(&mut layer.values, from, to);
        }
        KvLayer::Int8(layer) => {
            copy_row(&mut layer.key_codes, from, to);
            copy_row(&mut layer.key_scales, from, to);
            copy_row(&mut layer.value_codes, from, to);
            copy_row(&mut layer.value_scales, from, to);
        }
        KvLayer::Selected(layer) => {
            copy_block(&mut layer.pool, from, to);
            copy_row(&mut layer.bounds, from, to);
        }
    }
}

fn copy_row<B: Backend, const D: usize, K: BasicOps<B>>(
    pool: &mut Tensor<B, D, K>,
    from: u32,
    to: u32,
) {
    let dims = pool.dims();
    let row = pool.clone().narrow(0, from as usize, 1);
    let at = std::array::from_fn::<_, D, _>(|dim| match dim {
        0 => to as usize..to as usize + 1,
        _ => 0..dims[dim],
    });
    *pool = pool.clone().slice_assign(at, row);
}
