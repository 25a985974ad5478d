//! Sparse models: one program, as each costs half a minute to build.

#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../tiny_model/mod.rs"]
mod tiny_model;

mod cats;
mod griffin;
mod open_sparse;
mod thresholds;
