//! Quantized models and their folders: one program, as each costs half a minute to build.

#[path = "../fake_quant/mod.rs"]
mod fake_quant;
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../tiny_model/mod.rs"]
mod tiny_model;
#[path = "../wikitext/mod.rs"]
mod wikitext;

mod foreign;
mod formats;
mod gptq_awq;
mod quant_calibration;
mod quant_quality;
mod quantize;
mod quantized;
