//! Divergences and their derivatives: against torch, against the definition in f64, and as a model's objective.

mod conformance;
mod definition;
mod fixture;
mod memory;
mod recorded;
mod refusals;
