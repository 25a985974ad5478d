//! What a very small model learns from that answers a question about a short text, in English and Chinese.
//!
//! **Should I use this crate?** To make such a model, or rows like its own for a model of yours: the feature `corpus` has
//! the programs, `data/facts/` the facts that they say and ask. The example `tiny` trains on them.

#[cfg(feature = "corpus")]
pub mod corpus;
