//! BERT-class encoders: texts to vectors, pairs of texts to scores. BERT's and RoBERTa's are the same layers
//! with other tables of positions.
//!
//! It is written over the float kernels of `lightglm-kernels`, on slices, and not as burn tensors: an encoder
//! has no cache, no quantized projections and is not trained here, and what is left are six matrix products a
//! layer. Texts are packed one behind the other, **never padded**, so a text's vector does not depend on its
//! company, to the bit.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use lightglm_model::encoder::SentenceEncoder;
//!
//! let encoder = SentenceEncoder::open(Path::new("all-MiniLM-L6-v2"))?;
//! let input = encoder.encode("How do I return an order?", encoder.max_tokens())?;
//! let vectors = encoder.embed(&[input])?;
//! assert_eq!(vectors[0].len(), encoder.dimensions());
//! # Ok::<(), lightglm_model::encoder::EncoderError>(())
//! ```

mod arithmetic;
mod cross_encoder;
mod error;
mod hidden_states;
mod layers;
mod parameters;
mod sentence_encoder;

pub use cross_encoder::CrossEncoder;
pub use error::EncoderError;
pub use hidden_states::HiddenStates;
pub use layers::Encoder;
pub use lightglm_text::EncoderInput;
pub use sentence_encoder::SentenceEncoder;
