//! `cache_teacher`: a teacher is asked once about all rows, and what it says is kept in a file.

use std::ops::ControlFlow;
use std::path::Path;

use lightglm_core::LabelledSpan;
use lightglm_distill::{CacheHeader, TeacherCache, fill_cache};
use lightglm_train::trainer::TokenizedExample;

use super::model_teacher::ModelTeacher;
use crate::error::Error;
use crate::model::Model;
use crate::progress::ProgressSink;

/// What is under way, for progress and interruptions.
const DOING: &str = "asking the teacher";

/// The model is asked about each row by itself, and no row's logits have to wait for another's.
const BATCH_TOKENS: usize = 1;

/// How a teacher's answers are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherCacheOptions {
    /// The temperature of the distributions: that of the training runs that will read them. 1 by default.
    pub temperature: f64,
    /// The most that a distribution takes: 32 to 65,536 bytes, 292 by default. One that needs less takes less.
    pub bytes_per_row: usize,
    /// Decides which tokens are drawn from the tails.
    pub seed: u64,
}

impl Default for TeacherCacheOptions {
    fn default() -> Self {
        Self { temperature: 1.0, bytes_per_row: 292, seed: 0 }
    }
}

/// Asks `teacher` about all `rows` and keeps its distributions in the file `path`, for
/// [`TrainingModel::with_cached_teacher`](super::TrainingModel::with_cached_teacher).
///
/// A call that was interrupted or killed is continued by the next, from `PATH.partial`, and the file is byte for byte
/// that of one call. A finished file of the same teacher and rows is left as it is, and nothing is asked. The file knows
/// its teacher by all bytes of its weights, its configuration and how both are held, and the rows by their tokens.
///
/// # Errors
/// [`Error::TeacherCache`]: the file is of another teacher, of other rows or settings, is damaged, or somebody else
/// writes it; [`Error::ConversationTooLong`]; [`Error::OneConversation`] for a teacher whose prompts choose its neurons;
/// [`Error::Option`] for one that is in training or has an adapter, whom no file can be told by;
/// [`Error::Interrupted`].
pub fn cache_teacher(
    teacher: &Model,
    rows: &[TokenizedExample],
    path: impl AsRef<Path>,
    progress: &ProgressSink,
) -> Result<TeacherCache, Error> {
    cache_teacher_with(teacher, rows, path, &TeacherCacheOptions::default(), progress)
}

/// As [`cache_teacher`], with options.
///
/// # Errors
/// As [`cache_teacher`]; [`Error::TeacherCache`] for options out of their range.
pub fn cache_teacher_with(
    teacher: &Model,
    rows: &[TokenizedExample],
    path: impl AsRef<Path>,
    options: &TeacherCacheOptions,
    progress: &ProgressSink,
) -> Result<TeacherCache, Error> {
    teacher.refuse_one_conversation("teacher")?;
    let (asked, path) = (ModelTeacher(teacher), path.as_ref());
    asked.check_rows(rows)?;
    let labelled = rows.iter().filter(|row| row.labels() > 0);
    let spans: Vec<LabelledSpan<'_>> =
        labelled.map(|row| LabelledSpan::text(&row.tokens, &row.targets)).collect();
    let &TeacherCacheOptions { temperature, bytes_per_row, seed } = options;
    let header = CacheHeader::new(teacher.config().vocab_size, asked.identity()?, &spans);
    let header = CacheHeader { temperature, bytes_per_row, seed, ..header };
    let filled = fill_cache(
        path,
        header,
        &asked,
        &spans,
        BATCH_TOKENS,
        &mut |filled| match progress.working(DOING, filled.examples as u64, filled.of as u64) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
    )?;
    match filled {
        ControlFlow::Continue(()) => Ok(TeacherCache::open(path)?),
        ControlFlow::Break(()) => Err(Error::Interrupted { doing: DOING }),
    }
}
