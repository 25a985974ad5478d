//! `PackingError`: why a matrix does not fit a format.

/// Why codes, scales and a format do not make a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackingError {
    /// A group is no multiple of eight columns (and not the whole row), or empty.
    #[error(
        "groups of {group_size} columns do not fit rows of {in_features}: a group is the whole row or a multiple of 8"
    )]
    GroupSize {
        /// Columns of a group.
        group_size: usize,
        /// Columns of the matrix.
        in_features: usize,
    },
    /// Neither of the groups of weights and activations is a multiple of the other.
    #[error(
        "groups of {activation} activations cannot meet groups of {weight} weights: one must divide the other"
    )]
    ActivationGroupSize {
        /// Columns of a group of weights.
        weight: usize,
        /// Columns of a group of activations.
        activation: usize,
    },
    /// A part has another length than the shape asks for.
    #[error("`{part}` has {actual} elements, the shape asks for {expected}")]
    Length {
        /// `codes`, `scales` or `minimums`.
        part: &'static str,
        /// Elements that follow from shape and format.
        expected: usize,
        /// Elements that are there.
        actual: usize,
    },
    /// A code is outside of what its bits can hold.
    #[error("the code {code} of row {row} is above {largest}")]
    Code {
        /// The code.
        code: u8,
        /// Its row.
        row: usize,
        /// The largest that fits.
        largest: u8,
    },
    /// A scale or minimum is NaN or infinite, or too large for its precision.
    #[error("`{part}` of row {row} is not finite")]
    NotFinite {
        /// `scales` or `minimums`.
        part: &'static str,
        /// Its row.
        row: usize,
    },
    /// Nested scales need rows of whole units, and units of whole groups.
    #[error(
        "nested scales of groups of {group_size} columns do not fit rows of {in_features}: rows and groups must make up units of 256 columns"
    )]
    NestedGroups {
        /// Columns of a group.
        group_size: usize,
        /// Columns of the matrix.
        in_features: usize,
    },
    /// Nested scales exist in panels only.
    #[error("nested scales lie in panels; in the order of channels scales are f32")]
    NestedOrder,
    /// The scales of a unit have no common f16 number of which they are multiples by -128 to 127.
    #[error(
        "`{part}` of row {row} are no whole multiples of one f16 number in every 256 columns, as nested scales are"
    )]
    NotNested {
        /// `scales` or `minimums`.
        part: &'static str,
        /// Its row.
        row: usize,
    },
    /// Codes are packed in panels; another order is made from them.
    #[error("codes are packed in panels and brought into another order afterwards")]
    Order,
}
