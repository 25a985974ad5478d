//! The paged KV cache and what it is made of, against naive models of each.

mod block_pool;
mod model;
mod paged;
mod prefix_index;
mod requests;
mod unshared;
