//! A small model that answers from a short text, and how it is made.
//!
//! With the feature `corpus`: the programs that make what it learns from (`corpus`).

#[cfg(feature = "corpus")]
pub mod corpus;
