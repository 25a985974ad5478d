//! Fine-tuning of language models: data, LoRA, the training loop, checkpoints.
//!
//! **Should I use this crate?** Yes, to adapt a GLM-4-class model to a company's own questions and
//! answers, on a GPU or on a plain CPU. It trains anything that is a
//! [`TrainableLm`](lightglm_core::TrainableLm) on token ids; the decoder is `lightglm-model`'s,
//! tokenizer and chat template are `lightglm-text`'s. What is trained is what requires gradients: all
//! parameters, the adapters of [`lora`], or the weights behind `lightglm-quant`'s fake quantization.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use burn::backend::Autodiff;
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_testkit::BigramLm;
//! use lightglm_train::objectives::CrossEntropy;
//! use lightglm_train::trainer::{TokenizedExample, TrainConfig, TrainEvent, Trainer};
//!
//! // Any `TrainableLm`: lightglm-model's decoder, with or without adapters, or this table.
//! let model = BigramLm::<Autodiff<Flex>>::new(16, 0, &FlexDevice);
//! // The answer is learnt, the question is not.
//! let example = TokenizedExample::new(vec![5, 6, 7, 8], &[false, false, true, true], 1);
//! let config = TrainConfig { learning_rate: 1e-1, ..TrainConfig::default() };
//! let mut losses = Vec::new();
//! let mut watch = |event: &TrainEvent| {
//!     if let TrainEvent::Step(step) = event {
//!         losses.push(step.loss);
//!     }
//!     ControlFlow::Continue(())
//! };
//! let examples = vec![example; 16];
//! let trainer = Trainer::new(&config, &CrossEntropy);
//! let (model, outcome) = trainer.run(model, &examples, &mut watch)?;
//! assert!(losses.last() < losses.first());
//! # let _ = (model, outcome);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The seams used are `TrainableLm`, `Objective`, `Linear`, `EffectiveWeight` and `ReplaceWeight`.

pub mod checkpoint;
pub mod data;
pub mod lora;
mod mixed_precision;
pub mod objectives;
pub mod optimizer;
pub mod peft;
pub mod trainer;

pub use mixed_precision::{HalfPrecision, MixedPrecision};
