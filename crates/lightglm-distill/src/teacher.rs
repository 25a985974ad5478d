//! `Teacher`: what is wanted of a student.

use std::fmt::Display;
use std::marker::PhantomData;

use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::{LabelledSpan, LmError};

use crate::teacher_rows::TeacherRows;

/// Says what is wanted behind each labelled token of a batch.
pub trait Teacher {
    /// A distribution for each labelled token of the batch's spans, in order.
    ///
    /// # Errors
    /// [`LmError`], where the teacher cannot be asked.
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError>;
}

/// A teacher that is asked about each batch anew; nothing of what it says is kept.
///
/// It is made of a function that gives the logits `[R, V]` of a batch's labelled rows, in order: a decoder's
/// `labelled_logits`, say.
#[derive(Debug)]
pub struct LiveTeacher<F, B> {
    logits: F,
    backend: PhantomData<fn() -> B>,
}

impl<F, B> LiveTeacher<F, B>
where
    B: Backend,
    F: Fn(&[LabelledSpan<'_>]) -> Result<Tensor<B, 2>, LmError>,
{
    /// The teacher of this function.
    pub fn new(logits: F) -> Self {
        Self { logits, backend: PhantomData }
    }
}

impl<F, B> Teacher for LiveTeacher<F, B>
where
    B: Backend,
    F: Fn(&[LabelledSpan<'_>]) -> Result<Tensor<B, 2>, LmError>,
{
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        let logits = (self.logits)(batch)?;
        let [_, vocab_size] = logits.dims();
        let logits = logits.into_data().convert::<f32>().into_vec::<f32>();
        let logits = logits.map_err(|error| refused(&format!("{error:?}")))?;
        TeacherRows::logits(logits, vocab_size).map_err(|error| refused(&error))
    }
}

/// A teacher's fault as a model's.
pub(crate) fn refused(error: &dyn Display) -> LmError {
    LmError::Objective { reason: error.to_string() }
}
