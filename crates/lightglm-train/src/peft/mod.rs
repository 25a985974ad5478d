//! Adapters in the files of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Names follow transformers' `GlmForCausalLM` and `Glm4ForCausalLM`, whose modules the decoder's
//! projections are called after, so adapters go both ways without a conversion. Those of models in another
//! [`ProjectionLayout`](lightglm_core::ProjectionLayout) are read and written in that one. What PEFT wrote
//! before safetensors, `adapter_model.bin`, is read without running any of it.
//!
//! Source: PEFT, `peft/tuners/lora/config.py` and `peft/utils/save_and_load.py`.

mod adapter_config;
mod error;
mod layout;
mod load;
mod names;
mod pickle;
mod places;
mod save;
mod tensors;
mod unpickle;

pub use error::PeftError;
pub use load::load_adapter;
pub use save::save_adapter;

/// The file of an adapter's configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The file of an adapter's matrices.
pub const MODEL_FILE: &str = "adapter_model.safetensors";

/// What PEFT wrote before.
const PICKLE_FILE: &str = "adapter_model.bin";

/// What PEFT puts in front of a module's name.
const PREFIX: &str = "base_model.model.";
