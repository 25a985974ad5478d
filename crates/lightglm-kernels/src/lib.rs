//! CPU SIMD kernels and the burn backend extension that the decoder is written on.
//!
//! **Should I use this crate?** To run a model, start at `lightglm`. Use this one to write a
//! new kind of layer on [`LmBackend`], to add a burn backend to it, or to call the kernels in
//! [`cpu`] on slices of your own, without burn.
//!
//! ```
//! use burn::tensor::Tensor;
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_kernels::LmBackend;
//!
//! let x = Tensor::<Flex, 2>::from_data([[1.0, 2.0]], &FlexDevice);
//! let weight = Tensor::<Flex, 2>::from_data([[3.0, 4.0], [5.0, 6.0]], &FlexDevice);
//! let y = Flex::project(x, weight, None);
//! assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [11.0, 17.0]);
//! ```
//!
//! All of the workspace's `unsafe` code is here: the SIMD kernels, the worker team and the memory
//! map, behind safe functions over slices.

mod allocator;
mod autodiff;
mod backends;
mod channel_order;
pub mod cpu;
mod extension;
mod flex;
mod flex_gradients;
mod gradients;
mod map_file;
pub mod packed;
mod pages;
pub mod reference;
mod row_loss;
mod select;

pub use allocator::{give_freed_memory_back, keep_freed_memory};
pub use channel_order::channel_tiles;
pub use cpu::{AttentionShape, AttentionSpan};
pub use extension::LmBackend;
pub use gradients::{AdamWState, AdamWStep, LmGradients};
pub use map_file::{MappedFile, map_file, page_in, page_out};
pub use packed::{
    ActivationBits, ActivationFormat, CodeOrder, PANEL_ROWS, PackedFormat, PackedMatrix,
    PackedSizes, PackingError, QuantizedMatrix, ScaleDtype, WeightBits,
};
pub use pages::Pages;
pub use row_loss::RowLoss;
pub use select::select_weight;
