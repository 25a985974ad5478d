//! The paged KV cache against a naive model of it, and under requests.

mod model;
mod paged;
mod requests;
mod unshared;
