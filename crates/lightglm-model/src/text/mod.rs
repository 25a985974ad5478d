//! Text in and out: tokenizer, chat template, tool calls, streaming detokenization.

mod byte_level;
mod detokenize;
mod error;
mod gguf_tokenizer;
mod pre_tokenizer;
mod token_table;
mod tokenizer;
mod tokenizer_json;

pub use detokenize::DetokenizeStream;
pub use error::TextError;
pub use tokenizer::{EncodedText, Tokenizer};
