//! The burn backends that qualify as they are.

#[cfg(feature = "wgpu")]
impl crate::LmBackend for burn::backend::Wgpu {}
#[cfg(feature = "wgpu")]
impl crate::LmGradients for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl crate::LmBackend for burn::backend::Cuda {}
#[cfg(feature = "cuda")]
impl crate::LmGradients for burn::backend::Cuda {}
