//! A teacher that is asked once: its distributions in a file.
//!
//! ```text
//! header, records (one for each span), index (where they are)
//! ```
//!
//! A row has its likeliest tokens with their probabilities, the mass of all others, and tokens drawn from these
//! ([`TailSample`](crate::TailSample)). What a row's bytes are spent on is decided by the row: tokens that are likelier
//! than a drawn one weighs are stored, the others drawn, and a row that is told well enough ends.

mod bits;
mod cached_teacher;
mod error;
mod fill;
mod header;
mod index;
mod levels;
mod probabilities;
mod reader;
mod record;
mod row_code;
mod selection;
mod span_key;
mod weights_hash;
mod writer;

pub use cached_teacher::CachedTeacher;
pub use error::TeacherCacheError;
pub use fill::{FillProgress, fill_cache};
pub use header::CacheHeader;
pub use reader::TeacherCache;
pub use span_key::text_hash;
pub use weights_hash::weights_hash;
pub use writer::{Resumed, TeacherCacheWriter};
