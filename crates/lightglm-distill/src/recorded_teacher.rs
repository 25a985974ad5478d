//! `RecordedTeacher`: what a teacher said earlier, of the same rows.

use std::collections::HashMap;

use lightglm_core::{LabelledSpan, LmError};

use crate::error::DistillError;
use crate::teacher::{Teacher, refused};
use crate::teacher_rows::{TeacherRows, TopRow};

/// A row: its tokens, and what is wanted behind each.
type Row = (Vec<u32>, Vec<Option<u32>>);

/// A teacher that was asked before: the likeliest tokens behind each labelled token of known rows, at temperature 1.
///
/// A row that it was not asked about it refuses.
#[derive(Clone, Debug)]
pub struct RecordedTeacher {
    vocab_size: usize,
    said: HashMap<Row, Vec<TopRow>>,
}

impl RecordedTeacher {
    /// A teacher over `vocab_size` tokens that knows nothing yet.
    pub fn new(vocab_size: usize) -> Self {
        Self { vocab_size, said: HashMap::new() }
    }

    /// Takes in what was said of a row: a distribution for each label. What it knew of the same row is replaced.
    ///
    /// # Errors
    /// [`DistillError::Rows`] where they are not as many as labels; those of [`TeacherRows::top`].
    pub fn record(
        &mut self,
        span: LabelledSpan<'_>,
        rows: Vec<TopRow>,
    ) -> Result<(), DistillError> {
        let (teacher, student) = (rows.len(), span.labels());
        if teacher != student {
            return Err(DistillError::Rows { teacher, student });
        }
        TeacherRows::top(rows.clone(), self.vocab_size, 1.0)?;
        self.said.insert((span.tokens.to_vec(), span.targets.to_vec()), rows);
        Ok(())
    }

    /// Tokens that its distributions are over.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Rows that it knows.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Whether it was asked about this row.
    pub fn knows(&self, span: LabelledSpan<'_>) -> bool {
        self.said.contains_key(&(span.tokens.to_vec(), span.targets.to_vec()))
    }
}

impl Teacher for RecordedTeacher {
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        let mut rows = Vec::new();
        for (index, span) in batch.iter().enumerate().filter(|(_, span)| span.labels() > 0) {
            let said = self.said.get(&(span.tokens.to_vec(), span.targets.to_vec()));
            let said = said.ok_or_else(|| refused(&DistillError::Unrecorded { row: index }))?;
            rows.extend_from_slice(said);
        }
        TeacherRows::top(rows, self.vocab_size, 1.0).map_err(|error| refused(&error))
    }
}
