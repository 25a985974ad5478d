//! Fine-tuning of language models: data, LoRA, the training loop, checkpoints.
//!
//! **Should I use this crate?** Yes, to adapt a GLM-4-class model to a company's own questions and
//! answers, on a GPU or on a plain CPU. It trains anything that is a
//! [`TrainableLm`](lightglm_core::TrainableLm) on token ids; the decoder is `lightglm-model`'s, and so
//! are tokenizer and chat template. What is trained is what requires gradients: all parameters, the
//! adapters of [`lora`], or the weights behind `lightglm-quant`'s fake quantization.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use burn::backend::Autodiff;
//! use burn::module::Module;
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::WeightDtype;
//! use lightglm_model::config::GlmConfig;
//! use lightglm_model::decoder::{DenseGlm, DenseLinear, LoadPrecision};
//! use lightglm_model::weights::SeededWeights;
//! use lightglm_train::lora::{Lora, LoraConfig};
//! use lightglm_train::objectives::CrossEntropy;
//! use lightglm_train::trainer::{TokenizedExample, TrainConfig, Trainer};
//! type Train = Autodiff<Flex>;
//!
//! // A model, here with random weights; LoRA beside each of its projections.
//! let config = GlmConfig::tiny();
//! let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 0);
//! let stored = LoadPrecision::Stored;
//! let model =
//!     DenseGlm::<Train>::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice)?;
//! let lora = Lora::new("default", LoraConfig::default(), 0)?;
//! let mut wrap = |name: &str, linear: DenseLinear<Train>| lora.wrap(name, linear);
//! let model = model.no_grad().map_linears(&mut wrap);
//!
//! // An example: the answer is learnt, the question is not.
//! let example = TokenizedExample::new(vec![5, 6, 7, 8], &[false, false, true, true], 1);
//! let train = TrainConfig { learning_rate: 1e-2, ..TrainConfig::default() };
//! let mut losses = Vec::new();
//! let mut watch = |event: &_| {
//!     if let lightglm_train::trainer::TrainEvent::Step(step) = event {
//!         losses.push(step.loss);
//!     }
//!     ControlFlow::Continue(())
//! };
//! let examples = vec![example; 16];
//! Trainer::new(&train, &CrossEntropy).run(model, &examples, &mut watch)?;
//! assert!(losses.last() < losses.first());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The seams used are `TrainableLm`, `Objective`, `Linear`, `EffectiveWeight` and `ReplaceWeight`.

pub mod checkpoint;
pub mod data;
pub mod lora;
pub mod objectives;
pub mod optimizer;
mod parameters;
pub mod peft;
pub mod trainer;

pub use parameters::{TrainableParameter, trainable_parameters};
