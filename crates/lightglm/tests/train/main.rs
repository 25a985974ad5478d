//! Training, with the whole decoder: one program, as each costs half a minute to build.

mod accuracy;
mod adapters_as_brought;
mod cached_teacher;
mod chatglm;
mod checkpoint_folder;
mod conformance;
mod distill;
mod generations;
mod golden;
mod lora;
mod master_weights;
mod matching;
mod merge;
mod mixed_precision;
mod peft;
mod peft_llama;
mod qat_model;
mod qlora;
mod refusals;
#[cfg(feature = "teacher-server")]
mod server_teacher;
mod training_model;
