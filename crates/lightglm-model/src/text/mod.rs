//! Text in and out: tokenizer, chat template, tool calls, streaming detokenization.
//!
//! Messages go through a [`ChatTemplate`] to a [`RenderedPrompt`] and, with a [`Tokenizer`], to ids;
//! the ids a model answers with go through a [`DetokenizeStream`] to text, and that through a
//! [`ToolCallStream`] to content and calls.
//!
//! **No text of a caller becomes a control token.** The template's own words and the contents it
//! puts between them are told apart down to the character, whatever the template does with them.

mod byte_level;
mod chat_template;
mod detokenize;
mod error;
mod gguf_tokenizer;
mod model_text;
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
pub use model_text::ModelText;
pub use prompt::RenderedPrompt;
pub use tokenizer::{EncodedText, Tokenizer};

pub use lightglm_generation::{
    Message, ParsedReply, ToolCall, ToolCallEvent, ToolCallStream, parse_tool_calls,
};
