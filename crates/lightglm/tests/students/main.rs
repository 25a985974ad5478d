//! Students cut out of teachers: what is kept is kept to the bit, and what did nothing is not missed.

#[path = "../tiny_model/mod.rs"]
#[allow(dead_code, reason = "one of its parts is used")]
mod tiny_model;

mod fixture;
mod importance;
mod keep_everything;
mod plan;
mod refusals;
mod scratch;
mod search;
mod smollm2;
mod vocabulary;
mod zero_units;
