//! Methods that choose codes and scales: round to nearest, clip search, GPTQ, AWQ, SmoothQuant, and
//! a search for the scheme of each layer.
//!
//! All of them see a layer as a weight, a scheme and statistics of its inputs; none knows a decoder.

mod budget;
mod calibrate;
mod cholesky;
mod clip;
mod error;
mod fold;
mod gptq;
mod layer_weight;
mod observer;
mod quantization_method;
mod scale_search;
mod sequential;
mod statistics;

pub use budget::{
    Assignment, Choice, LayerChoices, relative_output_error, scheme_bytes, search_budget,
};
pub use calibrate::{CalibrationConfig, MakeCache, calibrate, calibrate_twice};
pub use clip::clipped_scale;
pub use error::MethodError;
pub use fold::{Fold, FoldPair, FoldSource, FoldedWeights, fold_pairs};
pub use gptq::Gptq;
pub use layer_weight::LayerWeight;
pub use observer::{ObservedLinear, Observer, StatisticsObserver};
pub use quantization_method::{ClipSearch, QuantizationMethod, RoundToNearest};
pub use scale_search::{ScaleSearch, awq, smooth_quant};
pub use sequential::{LayerPolicy, SequentialLinear, SequentialQuantizer};
pub use statistics::{InputStatistics, Record};
