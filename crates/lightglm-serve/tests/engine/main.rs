//! The engine, with a language model that reads its answers back out of the cache: a lost block, a
//! wrong length or somebody else's keys change the text.

mod adapters;
mod alone;
mod fairness;
mod faults;
mod harness;
mod limits;
mod speculation;
mod threads;
