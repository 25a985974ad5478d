//! CPU kernels over slices: every instruction set the machine has, picked at run time.
//!
//! Shapes: `T` tokens (rows), `K` in_features, `N` out_features, `D` hidden_size, `F`
//! intermediate_size, `H` query heads, `Kh` kv heads, `d` head_dim, `P` blocks of a KV pool.
//! Everything is row-major, activations are f32.
//!
//! **Bits.** A row of a result does not depend on the number of threads, on the other rows of the
//! batch, or on the instruction set. That is only possible because the order of every reduction is
//! fixed: a dot product keeps 16 partial sums, the `l`-th over `k = l, l + 16, l + 32, ...` with
//! fused multiply-adds (the last, partial vector padded with zeros), and adds them up as
//! `s[i] = a[i] + a[i + 8]`, then `+ 4`, `+ 2`, `+ 1`. (`linear_channels` and `product` have
//! a single sum.) Threads
//! split outputs, never a reduction.
//! NaN stays NaN, but its payload bits are not promised.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backward;
mod convert;
mod element;
mod encoder;
mod exp;
mod isa;
mod kv;
mod kv_int8;
mod linear;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod packed;
mod product;
pub mod roofs;
mod rotary;
mod scalar;
mod scratch;
mod segments;
mod simd;
mod swiglu;
pub mod team;
mod weights;

pub use attention::{
    AttentionShape, PageSelection, attention, attention_int8, attention_int8_pages,
    attention_pages, attention_to_all, extend_bounds, select_pages,
};
pub use backward::{
    adamw, attention_backward, cross_entropy, cross_entropy_backward, rms_norm_backward,
    row_losses, row_losses_backward, sum_of_squares, swiglu_backward,
};
pub use convert::{convert_from_f32, convert_to_f32, gather_rows};
pub use encoder::{Activation, activate, lane_sum, layer_norm};
pub use isa::Isa;
pub use kv::{AttentionSpan, KvSlice, KvSliceMut, append_kv};
pub use kv_int8::{Int8Pool, Int8PoolMut, append_kv_int8, rotate_head};
pub use linear::linear;
pub(crate) use linear::to_channel_tiles;
pub use linear::{CHANNEL_TILE_STEP, channel_tile_rows, linear_channels};
pub use norm::{rms_norm, rms_norm_add};
pub use packed::{
    DotIsa, PackedWeights, QuantizedActivations, Scales, gather_packed_rows, linear_packed,
    quantize_activations,
};
pub use product::{MatrixRef, product, product_to_vec};
pub use rotary::rotary;
pub use segments::attend_segments;
pub use swiglu::swiglu;
pub use weights::Weights;
