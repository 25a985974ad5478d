//! `TeacherStates`: what a teacher computes inside. Shapes: `T` tokens of all spans of a batch, `D` width.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{LabelledSpan, LmError, Tap};

use crate::error::DistillError;
use crate::teacher::refused;

/// A state for each token: `[T, D]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRows {
    values: Vec<f32>,
    width: usize,
}

impl StateRows {
    /// Of `values: [T, width]`.
    ///
    /// # Errors
    /// [`DistillError::StateShape`] where they are no rows of that width.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, DistillError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(DistillError::StateShape { numbers: values.len(), width });
        }
        Ok(Self { values, width })
    }

    /// Rows, `T`.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `D`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[T, D]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[D]`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    /// Refuses rows of another number than the student's.
    pub(super) fn check(&self, rows: usize) -> Result<(), DistillError> {
        match self.len() == rows {
            true => Ok(()),
            false => Err(DistillError::States { teacher: self.len(), student: rows }),
        }
    }
}

/// Says what a teacher computes inside for a batch.
pub trait TeacherStates: Debug + Send + Sync {
    /// The values at `taps`, each with a row for every token of the batch's spans.
    ///
    /// # Errors
    /// [`LmError`], where the teacher cannot be asked, or has no such place.
    fn states(&self, taps: &[Tap], batch: &[LabelledSpan<'_>]) -> Result<Vec<StateRows>, LmError>;
}

/// A teacher that is asked about each batch anew; nothing of what it says is kept.
///
/// It is made of a function that gives the values `[T, D]` at each tap: a decoder's `tapped`, say.
pub struct LiveStates<F, B> {
    states: F,
    backend: PhantomData<fn() -> B>,
}

impl<F, B> LiveStates<F, B>
where
    B: Backend,
    F: Fn(&[Tap], &[LabelledSpan<'_>]) -> Result<Vec<Tensor<B, 2>>, LmError>,
{
    /// The teacher of this function.
    pub fn new(states: F) -> Self {
        Self { states, backend: PhantomData }
    }
}

impl<F, B> Debug for LiveStates<F, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveStates").finish_non_exhaustive()
    }
}

impl<F, B> TeacherStates for LiveStates<F, B>
where
    B: Backend,
    F: Fn(&[Tap], &[LabelledSpan<'_>]) -> Result<Vec<Tensor<B, 2>>, LmError> + Send + Sync,
{
    fn states(&self, taps: &[Tap], batch: &[LabelledSpan<'_>]) -> Result<Vec<StateRows>, LmError> {
        let rows = |value: Tensor<B, 2>| {
            let [_, width] = value.dims();
            let values = value.into_data().convert::<f32>().into_vec::<f32>();
            let values = values.map_err(|error| refused(&format!("{error:?}")))?;
            StateRows::new(values, width).map_err(|error| refused(&error))
        };
        (self.states)(taps, batch)?.into_iter().map(rows).collect()
    }
}
