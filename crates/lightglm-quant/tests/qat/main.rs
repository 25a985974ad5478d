//! Quantization-aware training, layer by layer. Whole models are trained and converted in
//! `examples/tests/qat_model.rs`.

mod conformance;
mod conversion;
mod dense_projection;
mod fixture;
mod gradients;
mod refusals;
#[path = "../table_source/mod.rs"]
mod table_source;
