//! `SliceLinear`: projections of which a part can be run alone.
//!
//! Shapes: `T` rows, `K` in_features, `N` out_features, `n` and `k` chosen ones of them.

use burn::tensor::backend::Backend;

use crate::Linear;

/// A projection that can be cut down to some of its outputs or inputs, as structured pruning does.
///
/// What is cut out is a projection of its own: it shares no weights with the one it comes from, which
/// stays as it is. Indices may stand in any order and more than once.
pub trait SliceLinear<B: Backend>: Linear<B> {
    /// The outputs `outputs`, in that order: `x: [T, K] -> [T, n]`, each with the bits it has in the
    /// whole projection.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError>;

    /// The projection of the inputs `inputs`, in that order, the others being zero:
    /// `x: [T, k] -> [T, N]`. The order of its sums may be another than that of the whole projection.
    ///
    /// `None` where the inputs cannot be taken apart, as where a group of them shares a scale; such a
    /// projection is given zeros for the others instead.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError>;
}

/// Why a part of a projection could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// There is no such output or input.
    #[error("there is no {axis} {index}: the projection has {count}")]
    Index {
        /// `output` or `input`.
        axis: &'static str,
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl SliceError {
    /// Checks that `indices` are below `count`; `axis` is `output` or `input`.
    ///
    /// # Errors
    /// [`SliceError::Index`] with the first that is not.
    pub fn check(axis: &'static str, indices: &[usize], count: usize) -> Result<(), Self> {
        match indices.iter().find(|&&index| index >= count) {
            Some(&index) => Err(Self::Index { axis, index, count }),
            None => Ok(()),
        }
    }
}
