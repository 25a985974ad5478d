//! Quantization-aware training, layer by layer. Whole models are trained and converted in
//! `crates/lightglm/tests/train/qat_model.rs`.

mod conformance;
mod conversion;
mod dense_projection;
mod fixture;
mod gradients;
mod refusals;
#[path = "../table_source/mod.rs"]
mod table_source;
