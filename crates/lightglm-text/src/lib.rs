//! Text in and out of a language model: tokenizer, chat template, streaming detokenization. No
//! tensors.
//!
//! **Should I use this crate?** Yes, to count tokens, to render conversations, or to give a server
//! or a trainer another text side ([`ChatText`]). It builds without a tensor library. Everything
//! around it, models included, is in `lightglm`.
//!
//! Messages go through a [`ChatTemplate`] to a [`RenderedPrompt`] and, with a [`Tokenizer`], to ids;
//! the ids a model answers with go through a [`DetokenizeStream`] to text. [`ModelText`] is the three
//! of one model, and implements [`ChatText`], the seam that servers and trainers ask for.
//!
//! **No text of a caller becomes a control token.** The template's own words and the contents it
//! puts between them are told apart down to the character, whatever the template does with them; so
//! is seen what of a conversation did not get into the prompt at all.
//!
//! ```
//! use lightglm_text::{ChatTemplate, Message};
//!
//! let prompt = ChatTemplate::glm4_0414().render(&[Message::user("Hi")], &[], true)?;
//! assert_eq!(prompt.text(), "[gMASK]<sop><|user|>\nHi<|assistant|>");
//! # Ok::<(), lightglm_text::TextError>(())
//! ```

mod affixes;
mod byte_level;
mod call_turns;
mod chat_template;
mod chat_text;
mod detokenize;
mod detokenize_stream;
mod encoder_tokenizer;
mod error;
mod fold_tools;
mod gguf_tokenizer;
mod gguf_vocabulary;
mod jinja;
mod merges;
mod message;
mod model_text;
mod pieces;
mod pre_tokenizer;
mod prompt;
mod reply_opening;
mod sentencepiece;
mod sentencepiece_alphabet;
mod sentencepiece_model;
mod strftime;
mod template_inputs;
mod template_source;
mod tiktoken;
mod token_table;
mod tokenizer;
mod tokenizer_config;
mod tokenizer_file;
mod tokenizer_json;
mod tokenizer_model;

pub use chat_template::ChatTemplate;
pub use chat_text::{ChatText, ChatTextError, Thinking};
pub use detokenize::Detokenize;
pub use detokenize_stream::DetokenizeStream;
pub use encoder_tokenizer::{EncoderInput, EncoderTokenizer};
pub use error::TextError;
pub use gguf_vocabulary::GgufVocabulary;
pub use jinja::TemplateError;
pub use message::Message;
pub use model_text::ModelText;
pub use pieces::{TRANSCRIPTION_PROMPT, join_pieces, needs_space, subtitle};
pub use prompt::RenderedPrompt;
pub use tokenizer::{EncodedText, Tokenizer};
pub use tokenizer_model::TokenizerFamily;
