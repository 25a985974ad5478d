//! Text in and out: tokenizer, chat template, tool calls, streaming detokenization.

mod byte_level;
mod chat_template;
mod detokenize;
mod error;
mod gguf_tokenizer;
mod message;
mod pre_tokenizer;
mod prompt;
mod provenance;
mod python_json;
mod strftime;
mod template_environment;
mod template_source;
mod token_table;
mod tokenizer;
mod tokenizer_json;

pub use chat_template::ChatTemplate;
pub use detokenize::DetokenizeStream;
pub use error::TextError;
pub use message::Message;
pub use prompt::RenderedPrompt;
pub use tokenizer::{EncodedText, Tokenizer};
