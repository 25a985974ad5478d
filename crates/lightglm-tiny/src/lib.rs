//! The model that is there without any network: a file of a few megabytes, in English and Chinese, compiled in.
//!
//! It answers a question about a short text by saying what the text says, in the question's language, or says that the
//! text does not tell. That is all that it can do; what it scores, and on what it was trained, is in its
//! model card, the crate's `README.md`.
//!
//! **Should I use this crate?** Through `lightglm`, whose `DEFAULT_MODEL` it is. Use it alone to get the files.
//!
//! ```no_run
//! let folder = lightglm_tiny::unpack(std::path::Path::new("/var/cache/lightglm"))?;
//! assert!(folder.join("model.safetensors").exists());
//! # Ok::<(), lightglm_tiny::UnpackError>(())
//! ```
//!
//! With the feature `corpus` the crate also has the programs that make what it learnt from
//! (`corpus`).

#[cfg(feature = "corpus")]
pub mod corpus;
mod unpack;

pub use unpack::{UnpackError, unpack};

/// What it is called where models have names.
pub const NAME: &str = "lightglm-tiny";

/// The model's files, each with its name: a folder in Hugging Face layout with packed weights.
pub const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../model/config.json")),
    ("generation_config.json", include_bytes!("../model/generation_config.json")),
    ("model.safetensors", include_bytes!("../model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../model/tokenizer_config.json")),
];
