//! Continuous batching, a paged KV cache, structured output, and an HTTP API that people know.
//!
//! **Should I use this crate?** To answer many requests with one model: in your own program through
//! [`engine`], or over HTTP through [`http`]. It takes any `CausalLm` of `lightglm-core`, quantized,
//! sparse or adapted, and any text side ([`ChatText`](lightglm_text::ChatText)): the decoder is
//! `lightglm-model`'s, and `ModelText` in `lightglm-text` is the text side of a checkpoint. For one
//! conversation at a time `Generator` in `lightglm-generation` is all you need; `Server` in `lightglm` puts
//! everything together.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::{Arc, mpsc};
//!
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{KvDtype, KvShape};
//! use lightglm_generation::SamplingParams;
//! use lightglm_serve::engine::{EngineBuilder, EngineConfig, EngineRequest, Event};
//! use lightglm_serve::kv::PagedKvCache;
//!
//! # let model = lightglm_testkit::TableLm::<Flex>::new(100, 4, 1, &FlexDevice);
//! let blocks = 64; // of 16 positions, shared by all requests
//! let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 3 }; // KvShape::of(&config)
//! let cache = PagedKvCache::<Flex>::new(shape, blocks, KvDtype::F16, &FlexDevice);
//! let engine = EngineBuilder::new(Arc::new(model), cache, EngineConfig::new(512)).build().spawn()?;
//!
//! let (sender, events) = mpsc::channel();
//! let params = SamplingParams { max_tokens: 8, ..SamplingParams::default() };
//! let detokenizer = Box::new(|token: u32| Some(format!("{token} ")));
//! let request = EngineRequest::new(vec![1, 2, 3], params, vec![0], detokenizer);
//! engine.handle().submit(request, Box::new(move |event| match sender.send(event) {
//!     Ok(()) => ControlFlow::Continue(()),
//!     Err(_) => ControlFlow::Break(()), // nobody listens any more: the request is cancelled
//! }))?;
//! for event in events {
//!     match event {
//!         Event::Step(step) => print!("{}", step.text),
//!         Event::Finished { usage, .. } => assert!(usage.completion_tokens <= 8),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(any(feature = "http", feature = "structured"))]
mod constraint;
pub mod engine;
#[cfg(feature = "http")]
pub mod http;
pub mod kv;
#[cfg(feature = "structured")]
pub mod structured;
