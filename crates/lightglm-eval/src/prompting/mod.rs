//! What a model is asked, and what its reply is taken for.
//!
//! A [`Prompt`] says what is asked and nothing about chat templates: [`PromptText`], which the
//! caller implements for its tokenizer, turns it into ids.

mod ask;
mod banking77;
mod gsm8k;
mod prompt;
mod shots;
mod spans;

pub use ask::{AskError, ask, most_likely_labels};
pub use banking77::{label_prompt, spoken_label};
pub use gsm8k::{is_solved, problem_prompt, without_annotations};
pub use prompt::{Prompt, PromptText, Shot, TextFailure};
pub use shots::{choose, in_random_order};
pub use spans::{SpanTask, UNANSWERABLE};
