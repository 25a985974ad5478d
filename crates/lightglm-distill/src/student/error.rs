//! `StudentError`.

use lightglm_core::WeightError;

/// Why a teacher has no such student.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudentError {
    /// More are wanted than there are, or none.
    #[error("{what}: {wanted} cannot be kept of {available}: from 1 to {available}")]
    Count {
        /// The key of config.json: `num_hidden_layers`, `hidden_size`, ...
        what: &'static str,
        /// How many are wanted.
        wanted: usize,
        /// How many the teacher has.
        available: usize,
    },
    /// Query heads that make no groups of one size.
    #[error(
        "num_attention_heads: {heads} heads cannot share {key_value_heads} key and value heads evenly, at most \
         {largest_group} each"
    )]
    HeadGroups {
        /// Query heads wanted.
        heads: usize,
        /// Key and value heads wanted.
        key_value_heads: usize,
        /// Query heads that share a key and value head of the teacher's.
        largest_group: usize,
    },
    /// A slice names a unit that there is not.
    #[error("{what}: there is no {index}, the teacher has {count}")]
    Index {
        /// The key of config.json.
        what: &'static str,
        /// What was named.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A slice does not name its units in ascending order, each once.
    #[error("{what}: {index} does not stand in ascending order")]
    Order {
        /// The key of config.json.
        what: &'static str,
        /// The unit at fault.
        index: usize,
    },
    /// The layers of a slice do not keep equally much, which config.json has no words for.
    #[error("{what}: layer {layer} of the student has {actual}, the first one {expected}")]
    Uneven {
        /// The key of config.json.
        what: &'static str,
        /// The layer, by its number in the student.
        layer: usize,
        /// What the first layer has.
        expected: usize,
        /// What this one has.
        actual: usize,
    },
    /// An activation is not finite.
    #[error("{name}: an activation is {value}")]
    NotFinite {
        /// Where it was seen.
        name: String,
        /// What it is.
        value: f32,
    },
    /// Rows that are no rows of the width that was seen before.
    #[error("{name}: {numbers} numbers are no rows of {width}")]
    Width {
        /// Where they were seen.
        name: String,
        /// How many numbers there are.
        numbers: usize,
        /// Numbers of a row.
        width: usize,
    },
    /// No text was seen, so nothing is more important than anything else.
    #[error("nothing was measured: the text for calibration has no tokens")]
    NothingMeasured,
    /// What was measured was measured on another model.
    #[error("{what}: {measured} were measured, the model has {expected}")]
    OtherModel {
        /// The key of config.json.
        what: &'static str,
        /// How many were measured.
        measured: usize,
        /// How many there are.
        expected: usize,
    },
    /// A machine without speed, or used by none or more than all of it.
    #[error("machine `{machine}`: {field} is {value}: {expected}")]
    Machine {
        /// Its name.
        machine: String,
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A tensor of the teacher's is missing or none of a decoder's.
    #[error(transparent)]
    Weights(#[from] WeightError),
}
