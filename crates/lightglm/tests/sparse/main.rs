//! Sparse models: one program, as each costs half a minute to build.

mod cats;
mod griffin;
mod open_sparse;
mod thresholds;
