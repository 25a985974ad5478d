//! Weights in the order of input channels, so that a channel that is zero need not be read.
//!
//! Shapes: `N` out_features, `K` in_features (channels), `R` rows of a tile.

use burn::tensor::{AllocationProperty, DType, Tensor, TensorData, backend::Backend};

use crate::cpu;
use crate::map_file::page_out;
use crate::pages::Pages;

/// `weight: [N, K]` channel by channel, for [`crate::LmBackend::project_channels`]: `[tiles, K, R]`
/// in the same precision (f32 where it is none of f32, f16 and bf16).
///
/// Row `i` of the weight is row `i % R` of tile `i / R`; the last tile is filled up with zeros. `R`
/// makes a channel's run in a tile 4 KB long where there are rows enough. The matrix is read back
/// from the device and laid out on the host, and freed where no one else holds it.
pub fn channel_tiles<B: Backend>(weight: Tensor<B, 2>) -> Tensor<B, 3> {
    let ([n, k], device) = (weight.dims(), weight.device());
    let weight = match weight.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => weight,
        _ => weight.cast(DType::F32),
    };
    let dtype = weight.dtype();
    let rows = cpu::channel_tile_rows(n, dtype.size());
    let data = weight.into_data();
    let tiles = n.div_ceil(rows);
    let mut pages = Pages::zeroed(tiles * k * rows * dtype.size());
    match dtype.size() {
        2 => tile::<2>(data.as_bytes(), [n, k], rows, &mut pages),
        _ => tile::<4>(data.as_bytes(), [n, k], rows, &mut pages),
    }
    if matches!(data.bytes.property(), AllocationProperty::File) {
        page_out(data.as_bytes());
    }
    drop(data);
    let bytes = pages.into_bytes();
    let shape = [tiles, k, rows].into();
    Tensor::from_data(TensorData { bytes, shape, dtype }, (&device, dtype))
}

/// [`cpu::to_channel_tiles`] of elements of `S` bytes.
fn tile<const S: usize>(weight: &[u8], shape: [usize; 2], rows: usize, tiles: &mut [u8]) {
    let (weight, tiles) = (weight.as_chunks::<S>().0, tiles.as_chunks_mut::<S>().0);
    cpu::to_channel_tiles(weight, shape, rows, tiles);
}
