//! The GLM decoder on burn tensors: configuration, weights, checkpoints.
//!
//! **Should I use this crate?** To bring a backend, a cache or a loop of your own: open a
//! [`checkpoint`], load its [`decoder`], and let `Generator` in `lightglm-generation` answer. To run a
//! model in a Rust program, take `lightglm`. To implement another kind of projection or weight file, see
//! `lightglm-core`, whose seams this crate implements (`WeightSource`, `PartSource`, `Linear`,
//! `FeedForward`, `CausalLm`, `TrainableLm`).
//!
//! ```no_run
//! use std::path::Path;
//!
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{KvDtype, KvShape, SequenceId};
//! use lightglm_model::checkpoint::Checkpoint;
//! use lightglm_model::decoder::LoadPrecision;
//! use lightglm_generation::{ContiguousKvCache, GenerationRequest, Generator, SamplingParams};
//! use lightglm_text::Message;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open(Path::new("GLM-4-9B-0414"))?;
//! let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice)?;
//! let tokenizer = checkpoint.tokenizer()?;
//! let messages = [Message::user("How do I return an order?")];
//! let prompt = checkpoint.chat_template()?.render(&messages, &[], true)?.encode(&tokenizer)?;
//!
//! let shape = KvShape::of(checkpoint.config());
//! let mut cache = ContiguousKvCache::new(shape, 1, 4096, KvDtype::Bf16, &FlexDevice);
//! let request = GenerationRequest::new(
//!     prompt,
//!     SamplingParams::default(),
//!     checkpoint.eos_token_ids()?,
//!     tokenizer.decode_stream(true),
//! );
//! for step in Generator::new(&model, &mut cache, SequenceId(0), request)? {
//!     print!("{}", step?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Without a model at hand, seeded random weights run the same code:
//!
//! ```
//! use std::path::Path;
//!
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{LogitRows, SequenceId, Span, WeightDtype};
//! use lightglm_model::config::GlmConfig;
//! use lightglm_model::decoder::{DenseGlm, LoadPrecision};
//! use lightglm_model::weights::SeededWeights;
//!
//! let config = GlmConfig::tiny();
//! let weights = SeededWeights::new(config.clone(), WeightDtype::Bf16, 1);
//! let model = DenseGlm::<Flex>::load(
//!     &config, &weights, Path::new("seeded"), LoadPrecision::Stored, &FlexDevice,
//! )?;
//! let span = Span::text(SequenceId(0), &[1, 2, 3], LogitRows::All);
//! assert_eq!(model.forward_uncached(&[span])?.dims(), [3, config.vocab_size]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod encoder;
pub mod weights;
