//! Structured output: replies that follow a JSON schema, a regular expression, a grammar or GLM's
//! tool calls, whatever the model would rather say.
//!
//! A [`GrammarVocabulary`] is built once per model, a [`Constraint`] is compiled once per request, and
//! what comes out makes a [`LogitsProcessor`](lightglm_generation::LogitsProcessor) for each reply, which
//! bans every token after which the reply could no longer become what was asked for. The automaton behind it is
//! llguidance's; what is added here are limits for hostile input, names of the fields that are at
//! fault, and the guarantee that what is let through can be read back: by `serde_json` where JSON was
//! asked for, by [`parse_tool_calls`](lightglm_generation::parse_tool_calls) where calls were.
//!
//! A reply that is cut off (by `max_tokens`, a stop string or the client) is a prefix of something
//! valid and no more than that.
//!
//! Sources: llguidance 1.9 (<https://github.com/guidance-ai/llguidance>), the request fields of
//! OpenAI's chat completions (`response_format`, `tool_choice`).

mod compile;
mod error;
mod grammar;
mod json_guard;
mod limits;
mod loosen;
mod pattern;
mod processor;
mod schema_check;
mod schema_shape;
mod schema_work;
mod token_mask;
mod vocabulary;

pub use compile::{Compiled, compile};
pub use error::StructuredError;
pub use limits::StructuredLimits;
pub use loosen::{Treatment, loosen, treatment};
pub use vocabulary::GrammarVocabulary;

pub use crate::constraint::{Constraint, ToolSpec};
