//! `Reranker`: documents in the order in which they answer a query.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lightglm_model::encoder::CrossEncoder;

use super::embedder::checked;
use super::last_part;
use crate::checkpoint::locate;
use crate::error::Error;
use crate::progress::ProgressSink;

/// A cross-encoder, which reads a query and a document together and says how well they match: a folder with
/// `BertForSequenceClassification` or `XLMRobertaForSequenceClassification` of one label (bge-reranker,
/// ms-marco-MiniLM). Clones share the model.
#[derive(Clone)]
pub struct Reranker {
    pub(crate) encoder: Arc<CrossEncoder>,
    name: Arc<str>,
    truncates: bool,
}

/// A document and what it scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which document, from 0.
    pub index: usize,
    /// From 0 to 1, or a logit where the model's configuration says so; the larger, the better.
    pub score: f32,
}

impl Reranker {
    /// Opens a folder, or with the feature `hub` a hub id.
    ///
    /// # Errors
    /// As [`Embedder::open`](super::Embedder::open).
    pub fn open(model: impl AsRef<Path>, progress: &ProgressSink) -> Result<Self, Error> {
        let folder = locate(model.as_ref(), progress)?;
        let encoder = CrossEncoder::open(&folder)?;
        let name = last_part(model.as_ref(), &folder).into();
        Ok(Self { encoder: Arc::new(encoder), name, truncates: false })
    }

    /// The same, but the longer text of a pair that is too long is cut off.
    #[must_use]
    pub fn truncating(mut self) -> Self {
        self.truncates = true;
        self
    }

    /// The last part of the model's name or path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens of the longest pair, those around the texts included.
    pub fn max_tokens(&self) -> usize {
        self.encoder.max_tokens()
    }

    /// All documents, the best first; of equal ones the first.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] where the query and a document together have more than [`Self::max_tokens`],
    /// unless this one is [`truncating`](Self::truncating).
    pub fn rank<S: AsRef<str>>(&self, query: &str, documents: &[S]) -> Result<Vec<Ranked>, Error> {
        let inputs = documents.iter().enumerate().map(|(index, document)| {
            checked(index, self.encoder.encode(query, document.as_ref())?, self.truncates)
        });
        let scores = self.encoder.score(&inputs.collect::<Result<Vec<_>, Error>>()?)?;
        let mut ranked: Vec<Ranked> =
            scores.into_iter().enumerate().map(|(index, score)| Ranked { index, score }).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(ranked)
    }
}

impl fmt::Debug for Reranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reranker")
            .field("name", &self.name)
            .field("max_tokens", &self.max_tokens())
            .field("truncates", &self.truncates)
            .finish_non_exhaustive()
    }
}
