//! The engine, with a language model that reads its answers back out of the cache: a lost block, a
//! wrong length or somebody else's keys change the text.

mod adapters;
mod alone;
mod bench;
mod fairness;
mod faults;
mod limits;
mod speculation;
mod threads;
