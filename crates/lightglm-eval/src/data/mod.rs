//! Question sets, as they are distributed.
//!
//! Every reader takes a plain file, gzip or zstd (told by the first bytes, not by the name), and
//! names file, line and field of what is wrong.

mod banking77;
mod bytes;
mod error;
mod gsm8k;
mod predictions;
mod records;
mod span_questions;

pub use banking77::{LabeledText, labels_of, read_labeled_texts, read_labels};
pub use bytes::{read_bytes, read_text};
pub use error::EvalDataError;
pub use gsm8k::{Problem, read_problems};
pub use predictions::{Predictions, read_na_probs};
pub use span_questions::{Question, read_questions};
