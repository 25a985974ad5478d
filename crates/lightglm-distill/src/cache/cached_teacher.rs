//! `CachedTeacher`: a teacher that was asked once.

use lightglm_core::{LabelledSpan, LmError};

use super::reader::TeacherCache;
use crate::teacher::{Teacher, refused};
use crate::teacher_rows::TeacherRows;

/// A teacher whose answers are in a [`TeacherCache`]. Spans are found by what they say, in whichever order and batches.
#[derive(Debug)]
pub struct CachedTeacher {
    cache: TeacherCache,
}

impl CachedTeacher {
    /// The teacher of this cache.
    pub fn new(cache: TeacherCache) -> Self {
        Self { cache }
    }

    /// Its cache.
    pub fn cache(&self) -> &TeacherCache {
        &self.cache
    }
}

impl Teacher for CachedTeacher {
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        let mut rows = Vec::new();
        for span in batch {
            rows.extend(self.cache.of_span(span).map_err(|error| refused(&error))?);
        }
        let header = self.cache.header();
        let rows = TeacherRows::top(rows, header.vocab_size, header.temperature);
        rows.map_err(|error| refused(&error))
    }
}
