//! `TextEmbedder` and `TextReranker`: the seams to the encoders beside the language model.

use std::sync::Arc;

use lightglm_text::EncoderInput;

/// What an encoder reads and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedderLimits {
    /// Elements of a text's vector; of a score, 1.
    pub dimensions: usize,
    /// Tokens of the longest text, or pair of texts, those around it included.
    pub max_tokens: usize,
    /// Token ids are below it.
    pub vocab_size: usize,
}

/// An encoder that gives texts vectors. `lightglm` has one.
pub trait TextEmbedder: Send + Sync {
    /// What it reads and gives.
    fn limits(&self) -> EmbedderLimits;

    /// The tokens of `text`, its end cut off where it has more than `max_tokens` or than the model reads;
    /// [`EncoderInput::whole_len`] says how many there were.
    ///
    /// # Errors
    /// Where the tokenizer gives up on a text.
    fn encode(&self, text: &str, max_tokens: usize) -> Result<EncoderInput, EmbedderError>;

    /// The vectors of inputs, `dimensions` elements each, which do not depend on one another. It blocks.
    ///
    /// # Errors
    /// Where the model refuses an input that its limits allow: a fault.
    fn embed(&self, inputs: &[EncoderInput]) -> Result<Vec<Vec<f32>>, EmbedderError>;
}

/// An encoder that reads a query and a document together and gives them a score. `lightglm` has one.
pub trait TextReranker: Send + Sync {
    /// What it reads.
    fn limits(&self) -> EmbedderLimits;

    /// The tokens of a pair, cut off where they are more than the model reads.
    ///
    /// # Errors
    /// Where the tokenizer gives up on a text.
    fn encode(&self, query: &str, document: &str) -> Result<EncoderInput, EmbedderError>;

    /// The scores of pairs, the larger the better, which do not depend on one another. It blocks.
    ///
    /// # Errors
    /// Where the model refuses a pair that its limits allow: a fault.
    fn score(&self, inputs: &[EncoderInput]) -> Result<Vec<f32>, EmbedderError>;
}

/// What an encoder said instead of a vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EmbedderError {
    /// In words.
    pub reason: String,
}

/// The encoders of a server.
#[derive(Clone, Default)]
pub(in crate::http) struct Encoders {
    pub(in crate::http) embedder: Option<Named<dyn TextEmbedder>>,
    pub(in crate::http) reranker: Option<Named<dyn TextReranker>>,
}

/// An encoder and its name in requests.
pub(in crate::http) struct Named<T: ?Sized> {
    pub(in crate::http) name: String,
    pub(in crate::http) model: Arc<T>,
}

impl<T: ?Sized> Clone for Named<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), model: self.model.clone() }
    }
}

impl Encoders {
    /// The encoders' names and the tokens that each reads; one that does both is there once.
    pub(in crate::http) fn models(&self) -> Vec<(String, usize)> {
        let embedder = self.embedder.as_ref();
        let embedder = embedder.map(|named| (named.name.clone(), named.model.limits().max_tokens));
        let reranker = self.reranker.as_ref();
        let reranker = reranker.map(|named| (named.name.clone(), named.model.limits().max_tokens));
        embedder.into_iter().chain(reranker).collect()
    }
}
