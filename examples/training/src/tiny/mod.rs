//! Making a model that answers from a short text (`lightglm-tiny`): tokenizer, first weights, rows, and what it scores.

pub mod grow;
pub mod hints;
pub mod questions;
pub mod rows;
pub mod stages;
pub mod start;
pub mod tensors;
pub mod token_rows;
pub mod tokenizer;
pub mod vocabulary;
