//! Texts to vectors, and documents in the order in which they answer a query: with small encoders beside the
//! language model, for programs that look things up.
//!
//! ```no_run
//! use lightglm::{Embedder, ProgressSink};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let embedder = Embedder::open("BAAI/bge-small-zh-v1.5", &ProgressSink::default())?;
//! let vectors = embedder.embed(&["怎么退货？", "七天之内可以退货。"])?;
//! let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
//! # Ok(())
//! # }
//! ```

mod embedder;
mod reranker;
#[cfg(feature = "serve")]
mod served;

pub use embedder::Embedder;
pub use lightglm_core::cosine;
pub use reranker::{Ranked, Reranker};

use std::path::{Path, PathBuf};

/// What a model is called where nobody says: the last part of its name or path.
fn last_part(model: &Path, folder: &Path) -> String {
    let name = model.to_str().map(|name| name.trim_end_matches('/')).unwrap_or_default();
    let name = name.split(['@', ':']).next().unwrap_or(name);
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match last {
        "" | "." | ".." => folder
            .canonicalize()
            .ok()
            .and_then(|folder: PathBuf| Some(folder.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "embedder".to_owned()),
        last => last.to_owned(),
    }
}
