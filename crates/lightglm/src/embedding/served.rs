//! What a server asks of an encoder.

use lightglm_model::encoder::{EncoderError, EncoderInput};
use lightglm_serve::http::{EmbedderError, EmbedderLimits, TextEmbedder, TextReranker};

use super::{Embedder, Reranker};

fn told(error: EncoderError) -> EmbedderError {
    EmbedderError { reason: error.to_string() }
}

impl TextEmbedder for Embedder {
    fn limits(&self) -> EmbedderLimits {
        EmbedderLimits {
            dimensions: self.dimensions(),
            max_tokens: self.max_tokens(),
            vocab_size: self.encoder.config().vocab_size,
        }
    }

    fn encode(&self, text: &str, max_tokens: usize) -> Result<EncoderInput, EmbedderError> {
        self.encoder.encode(text, max_tokens).map_err(told)
    }

    fn embed(&self, inputs: &[EncoderInput]) -> Result<Vec<Vec<f32>>, EmbedderError> {
        self.encoder.embed(inputs).map_err(told)
    }
}

impl TextReranker for Reranker {
    fn limits(&self) -> EmbedderLimits {
        EmbedderLimits {
            dimensions: 1,
            max_tokens: self.max_tokens(),
            vocab_size: self.encoder.config().vocab_size,
        }
    }

    fn encode(&self, query: &str, document: &str) -> Result<EncoderInput, EmbedderError> {
        self.encoder.encode(query, document).map_err(told)
    }

    fn score(&self, inputs: &[EncoderInput]) -> Result<Vec<f32>, EmbedderError> {
        self.encoder.score(inputs).map_err(told)
    }
}
