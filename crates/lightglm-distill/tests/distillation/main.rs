//! Divergences and their derivatives: against torch, against the definition in f64, and as a model's objective; and
//! teachers that were asked once.

mod cache_accuracy;
mod cache_files;
mod cache_fuzz;
mod cache_rows;
mod cache_training;
mod conformance;
mod definition;
mod fixture;
mod matching;
mod memory;
mod recorded;
mod refusals;
mod relation_memory;
mod relations;
mod state_distance;
mod synthetic;
mod text;
