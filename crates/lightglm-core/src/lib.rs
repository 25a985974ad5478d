//! The seams of lightglm: the traits and small types that every other crate speaks.
//!
//! **Should I use this crate?** Only to implement a seam (a new kind of `Linear`, of weight file, of
//! KV cache, of language model) or to accept any implementation of one. To run a model, start at
//! `lightglm`.
//!
//! ```
//! use lightglm_core::{LogitRows, SequenceId, Span};
//! // Two sequences advance together; only the last row of each is wanted.
//! let spans = [
//!     Span::text(SequenceId(0), &[5, 6, 7], LogitRows::Last),
//!     Span::text(SequenceId(1), &[9], LogitRows::Last),
//! ];
//! assert_eq!(spans.iter().map(|s| s.logits.count(s.tokens.len())).sum::<usize>(), 2);
//! ```
//!
//! The traits have few methods on purpose: what only one implementor could honour stays with that
//! implementor (docs/architecture.md, "Seams").

mod cosine;
mod effective_weight;
mod fast_exp;
mod kv_cache;
mod kv_dtype;
mod kv_shape;
mod lm;
mod master_weight;
mod media;
mod parameters;
mod part_source;
mod projection;
mod projection_layout;
mod python_json;
mod safetensors_writer;
mod selected_kv;
mod slice_linear;
mod taps;
mod training;
mod weights;

pub use cosine::cosine;
pub use effective_weight::{EffectiveWeight, ReplaceWeight};
pub use fast_exp::{exp_nonpositive, max_of};
pub use kv_cache::{
    FloatKvLayer, Int8KvLayer, KV_BLOCK, KvCache, KvCacheError, KvLayer, SequenceId,
};
pub use kv_dtype::{KvDtype, UnknownKvDtype};
pub use kv_shape::KvShape;
pub use lm::{CausalLm, LmError, LogitRows, Span};
pub use master_weight::MasterWeight;
pub use media::{
    MediaEncoder, MediaEncoderError, MediaFault, MediaInput, MediaKind, MediaLayout, MediaPart,
    MediaRows, MediaRun, MediaRuns, MediaRunsError, Positions,
};
pub use parameters::{TrainableParameter, trainable_parameters, with_values};
pub use part_source::{LoadPart, PartSource};
pub use projection::{Embedding, FeedForward, Linear};
pub use projection_layout::ProjectionLayout;
pub use python_json::{python_json, without_python_numbers};
pub use safetensors_writer::{
    SafetensorsWriter, StoredDtype, TensorSpec, save_safetensors, temporary_in,
};
pub use selected_kv::{PageBudget, SelectedKvLayer};
pub use slice_linear::{SliceError, SliceLinear};
pub use taps::{Tap, TapObjective};
pub use training::{Activations, GradientSums, LabelledSpan, Objective, TrainableLm};
pub use weights::{
    QUANTIZATION_KEY, StoredTensor, TensorView, WeightDtype, WeightError, WeightSource,
    checked_tensor,
};
