//! `fill_cache`: a teacher is asked about a whole text.

use std::ops::ControlFlow;
use std::path::Path;

use lightglm_core::LabelledSpan;

use super::error::TeacherCacheError;
use super::header::CacheHeader;
use super::reader::TeacherCache;
use super::writer::TeacherCacheWriter;
use crate::teacher::Teacher;

/// How far a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillProgress {
    /// Examples that are in it.
    pub examples: usize,
    /// All of them.
    pub of: usize,
    /// Rows that this call has written.
    pub rows: u64,
}

/// Asks `teacher` about all `examples` and keeps what it says in the cache `path`; continues with an unfinished one,
/// and leaves a finished one as it is, after a look at what it is of. `watch` hears of each batch and can interrupt,
/// which the result tells: the file then waits under its unfinished name for the next call.
///
/// The teacher is asked about as many examples at once as have `batch_tokens` tokens together. The batches are the
/// same wherever a call continues, so a teacher whose last bits depend on the batch writes the same file.
///
/// # Errors
/// [`TeacherCacheError`]; what was written before stays.
pub fn fill_cache(
    path: &Path,
    header: CacheHeader,
    teacher: &impl Teacher,
    examples: &[LabelledSpan<'_>],
    batch_tokens: usize,
    watch: &mut dyn FnMut(FillProgress) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, TeacherCacheError> {
    if path.exists() {
        TeacherCache::open(path)?.expect(&header)?;
        return Ok(ControlFlow::Continue(()));
    }
    let (mut writer, _) = TeacherCacheWriter::create_or_resume(path, header)?;
    let (mut done, mut rows) = (0, 0);
    while done < examples.len() {
        let batch = &examples[done..done + batch_len(&examples[done..], batch_tokens)];
        if batch.iter().any(|span| span.labels() > 0 && !writer.contains(span)) {
            let said = teacher.rows(batch);
            let said =
                said.map_err(|source| TeacherCacheError::Teacher { example: done, source })?;
            let before = writer.rows();
            writer.append(batch, &said)?;
            rows += writer.rows() - before;
        }
        done += batch.len();
        if watch(FillProgress { examples: done, of: examples.len(), rows }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    writer.finish()?;
    Ok(ControlFlow::Continue(()))
}

/// How many examples make the next batch, at least one.
fn batch_len(examples: &[LabelledSpan<'_>], batch_tokens: usize) -> usize {
    let mut tokens = 0;
    let fits = |span: &&LabelledSpan<'_>| {
        tokens += span.tokens.len();
        tokens <= batch_tokens
    };
    examples.iter().take_while(fits).count().max(1)
}
