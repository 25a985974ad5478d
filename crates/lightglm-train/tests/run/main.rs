//! Runs, their checkpoints and the files of adapters: one program, as each costs half a minute to build.

#[path = "../bigrams/mod.rs"]
mod bigrams;
mod checkpoint_fuzz;
mod checkpoints;
mod conformance;
mod muon;
mod peft;
mod rows_of_step;
mod training;
