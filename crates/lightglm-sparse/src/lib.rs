//! Dynamic sparse activation: a token runs only those input channels of a projection that matter to
//! it, chosen from the token's own activations and without training.
//!
//! **Should I use this crate?** Yes, to make decoding of a quantized model faster than its dense
//! self: [`SparseLinear`] puts a [`SparsityPolicy`] before any projection, and
//! `lightglm_kernels::PackedMatrix::with_order` brings a quantized matrix into the order in which a
//! channel that is zero is not read. [`ActivationStatistics`] finds the thresholds for a wanted
//! sparsity on a text of yours, [`allocate`] shares it out by measured error, and [`Thresholds`] keeps
//! them beside the checkpoint.
//!
//! **A policy is a mask.** It sets entries of a projection's input to zero; the projection computes
//! what it always computes, and a kernel that leaves zeros out gives the same bits as one that
//! multiplies them. So a policy composes with dense, quantized, fake-quantized and adapted
//! projections alike, and a dense model with the same masks is the reference of a sparse one.
//!
//! ```
//! use lightglm_sparse::{ActivationStatistics, Thresholds};
//! let calibration = ActivationStatistics::default();
//! calibration.record("layers.0.mlp.down_proj", &[0.1, -0.4, 0.2, -0.3], 4)?;
//! let thresholds = calibration.uniform(0.5)?;
//! let threshold = thresholds.get("layers.0.mlp.down_proj").unwrap();
//! assert!((0.2..=0.3).contains(&threshold));
//! # Ok::<(), lightglm_sparse::SparsityError>(())
//! ```
//!
//! **Neurons of a prompt** (GRIFFIN): [`NeuronStatistics`] records which neurons of the feed-forward
//! parts a prompt activates; [`SlicedLinear`] is a projection cut down to them for the generation that
//! follows, and [`KeptChannels`] the same choice as a mask. **Gates** (CATS): [`GatedFeedForward`] leaves
//! out neurons whose gate is nearly closed.
//!
//! The seams of core that this crate implements are `Linear` and `FeedForward`; it knows no decoder and
//! no scheme.

mod activation_statistics;
mod allocation;
mod error;
mod error_curve;
mod fault;
mod gated_feed_forward;
mod kept_channels;
mod magnitude;
mod neuron_statistics;
mod policy;
mod recording;
mod sliced_linear;
mod sparse_linear;
mod thresholds;

pub use activation_statistics::ActivationStatistics;
pub use allocation::allocate;
pub use error::SparsityError;
pub use error_curve::ErrorCurve;
pub use gated_feed_forward::GatedFeedForward;
pub use kept_channels::KeptChannels;
pub use magnitude::Magnitude;
pub use neuron_statistics::{KeptNeurons, NeuronStatistics};
pub use policy::{Dense, SparsityPolicy};
pub use recording::{Recorder, Recording};
pub use sliced_linear::SlicedLinear;
pub use sparse_linear::SparseLinear;
pub use thresholds::{ModelFingerprint, Threshold, Thresholds};
