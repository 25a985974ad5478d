//! Training, with the whole decoder: one program, as each costs half a minute to build.

mod conformance;
mod golden;
mod lora;
mod master_weights;
mod mixed_precision;
mod peft;
mod qlora;
mod teaching;
