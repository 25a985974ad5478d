//! `Embedder`: an encoder that gives a text a vector.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lightglm_model::encoder::{EncoderInput, SentenceEncoder};

use super::last_part;
use crate::checkpoint::locate;
use crate::error::Error;
use crate::progress::ProgressSink;

/// An encoder that gives a text a vector: a folder in sentence-transformers' layout (MiniLM, BGE, E5), or a
/// plain BERT or XLM-RoBERTa. Its vectors are those of sentence-transformers. Clones share the model.
#[derive(Clone)]
pub struct Embedder {
    pub(crate) encoder: Arc<SentenceEncoder>,
    name: Arc<str>,
    truncates: bool,
}

impl Embedder {
    /// Opens a folder, or with the feature `hub` a hub id or `DEFAULT_EMBEDDING_MODEL`, which is fetched where
    /// it is not there yet.
    ///
    /// # Errors
    /// Where there is no such model, it cannot be fetched, or a file of it is not what it should be.
    pub fn open(model: impl AsRef<Path>, progress: &ProgressSink) -> Result<Self, Error> {
        let folder = locate(model.as_ref(), progress)?;
        let encoder = SentenceEncoder::open(&folder)?;
        let name = last_part(model.as_ref(), &folder).into();
        Ok(Self { encoder: Arc::new(encoder), name, truncates: false })
    }

    /// The same, but texts that are too long are cut off instead of refused, as sentence-transformers does.
    #[must_use]
    pub fn truncating(mut self) -> Self {
        self.truncates = true;
        self
    }

    /// The last part of the model's name or path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Elements of a vector.
    pub fn dimensions(&self) -> usize {
        self.encoder.dimensions()
    }

    /// Tokens of the longest text, those around it included.
    pub fn max_tokens(&self) -> usize {
        self.encoder.max_tokens()
    }

    /// Whether the mean of a text's tokens is taken because the folder has no modules.json that says what is: right
    /// for a plain BERT, wrong for a model whose file a cache lacks.
    pub fn assumes_mean(&self) -> bool {
        self.encoder.assumes_mean()
    }

    /// Tokens that `text` takes, those around it included.
    ///
    /// # Errors
    /// [`Error::Encoder`] where the tokenizer gives up on a text.
    pub fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        Ok(self.encoder.encode(text, usize::MAX)?.whole_len)
    }

    /// The vectors of texts, [`Self::dimensions`] elements each. A vector does not depend on the other texts.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] for a text of more than [`Self::max_tokens`], unless this one is
    /// [`truncating`](Self::truncating).
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>, Error> {
        let inputs = texts.iter().enumerate().map(|(index, text)| {
            checked(index, self.encoder.encode(text.as_ref(), usize::MAX)?, self.truncates)
        });
        Ok(self.encoder.embed(&inputs.collect::<Result<Vec<_>, Error>>()?)?)
    }
}

/// Refuses an input that was cut, unless it may be.
pub(super) fn checked(
    index: usize,
    input: EncoderInput,
    truncates: bool,
) -> Result<EncoderInput, Error> {
    match input.is_truncated() && !truncates {
        true => {
            let (tokens, limit) = (input.whole_len, input.ids.len());
            Err(Error::TextTooLong { index, tokens, limit })
        }
        false => Ok(input),
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder")
            .field("name", &self.name)
            .field("dimensions", &self.dimensions())
            .field("max_tokens", &self.max_tokens())
            .field("truncates", &self.truncates)
            .finish_non_exhaustive()
    }
}
