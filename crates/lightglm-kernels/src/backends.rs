//! The burn backends that qualify as they are.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;

use crate::LmBackend;

/// Training differentiates the plain burn bodies.
impl<B: LmBackend, C: CheckpointStrategy> LmBackend for Autodiff<B, C> {}

#[cfg(feature = "wgpu")]
impl LmBackend for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl LmBackend for burn::backend::Cuda {}
