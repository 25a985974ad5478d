//! Files in, examples out: conversations to learn from and plain text, shuffled, split and packed.
//!
//! | format | a record |
//! |---|---|
//! | messages | `{"messages": [{"role": "user", "content": "..."}, ...]}` |
//! | alpaca | `{"instruction": "...", "input": "...", "output": "..."}`; Dolly's `context`, `response` |
//! | sharegpt | `{"conversations": [{"from": "human", "value": "..."}, ...]}` |
//! | prompt-completion | `{"prompt": "...", "completion": "..."}`, texts or lists of messages |
//! | question-answer | `{"question": "...", "answer": "..."}`, `query` with `response` and further pairs, or named columns |
//! | preference | `{"prompt": "...", "chosen": "...", "rejected": "..."}` |
//! | text | `{"text": "..."}`, or a `.txt` file |
//!
//! Records stand in JSON lines, a JSON list or object, or (where their fields are texts) a table of
//! whatever separator; texts also in paragraphs or as a whole file. Files are of any encoding, which their
//! bytes tell, with any line ends, plain or gzipped. A row is read, checked and handed on before the next
//! one, and a row above [`MAX_ROW_BYTES`] is refused, so memory stays bounded whatever the file. What is
//! wrong with a row is said with file, line and field; bad rows end the reading, or are dropped and
//! counted in a [`DropReport`], which also names the fields that have no effect.
//!
//! A [`ConversationTokenizer`] turns examples into token ids, of which the answers with
//! [`Turn::learn`] are learnt; the tokenizer and the chat template are a
//! [`ChatText`](lightglm_text::ChatText)'s.
//!
//! ```
//! use std::path::Path;
//! use lightglm_train::data::{
//!     DropReason, ExampleReader, OnBadRow, PackOrder, ReadOptions, epoch_order, pack,
//! };
//!
//! let file = r#"{"question": "When do you open?", "answer": "At nine."}
//! {"question": "And on Sundays?"}
//! {"question": "几点关门?", "answer": "晚上六点。"}
//! "#;
//! let options = ReadOptions { on_bad_row: OnBadRow::Drop, ..Default::default() };
//! let mut reader = ExampleReader::new(file.as_bytes(), Path::new("faq.jsonl"), options)?;
//! let examples = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(examples.len(), 2);
//! assert_eq!(reader.report().dropped[&DropReason::FieldMissing].first_lines, [2]);
//!
//! let lengths = [300, 200]; // What the tokenizer says.
//! let order = epoch_order(examples.len(), 7, 0);
//! let in_order: Vec<usize> = order.iter().map(|index| lengths[*index]).collect();
//! assert_eq!(pack(&in_order, 512, PackOrder::Given)?, [[0, 1]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes;
mod calls;
#[cfg(feature = "parquet")]
mod columnar;
mod container;
mod conversions;
mod csv_record;
mod decoded;
mod drop_report;
mod encoding;
mod example;
mod fault;
mod fields;
mod format;
mod json_columns;
mod json_layout;
mod json_texts;
mod names;
mod options;
mod packing;
mod python_json;
mod random_order;
mod read;
mod reader;
mod record;
mod rows;
mod source;
mod split;
#[cfg(feature = "spreadsheets")]
mod spreadsheet;
mod tokenize;
mod turns;
mod unrepeated;

pub use drop_report::{DropReason, DropReport, Dropped, OnBadRow};
pub use encoding::{TextEncoding, UnknownEncoding};
pub use example::{Conversation, Example, Preference, REASONING, Role, TOOL_CALLS, Text, Turn};
pub use fault::{DataError, Fault, RowError};
pub use format::{DataFormat, UnknownName};
pub use options::{Columns, ColumnsError, MAX_ROW_BYTES, ReadOptions, TextUnit};
pub use packing::{PackError, PackOrder, pack};
pub use random_order::{epoch_order, shuffle};
pub use read::{ExampleSet, read_examples};
pub use reader::ExampleReader;
pub use split::{Split, SplitError, ValidationSize, split, take_evenly, take_per_label};
pub use tokenize::{ConversationTokenizer, TokenizeError};
