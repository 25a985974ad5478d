//! Divergences and their derivatives: against torch, against the definition in f64, and as a model's objective.

mod conformance;
mod definition;
mod fixture;
mod matching;
mod memory;
mod refusals;
mod relation_memory;
mod relations;
mod state_distance;
