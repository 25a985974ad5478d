//! A small text with labels, for caches.

use std::path::Path;

use lightglm_core::{LabelledSpan, LmError};
use lightglm_distill::{CacheHeader, Teacher, TeacherCacheWriter, TeacherRows};
use lightglm_testkit::SplitMix;

/// Examples of their own.
#[derive(Debug)]
pub(crate) struct Text(Vec<(Vec<u32>, Vec<Option<u32>>)>);

impl Text {
    /// So many examples of up to `longest` tokens below `vocab_size`, two of three labelled.
    pub(crate) fn new(examples: usize, longest: usize, vocab_size: usize, seed: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let mut example = |_| {
            let len = 1 + random.below(longest);
            let mut ids = |len: usize| -> Vec<u32> {
                (0..len).map(|_| random.below(vocab_size) as u32).collect()
            };
            let (tokens, targets) = (ids(len), ids(len));
            let targets = targets.into_iter().enumerate();
            (tokens, targets.map(|(at, target)| (at % 3 != 1).then_some(target)).collect())
        };
        Self((0..examples).map(&mut example).collect())
    }

    pub(crate) fn spans(&self) -> Vec<LabelledSpan<'_>> {
        self.0.iter().map(|(tokens, targets)| LabelledSpan::text(tokens, targets)).collect()
    }
}

/// A teacher whose answer hangs on the token alone.
#[derive(Debug)]
pub(crate) struct ByToken {
    pub(crate) vocab_size: usize,
}

impl Teacher for ByToken {
    fn rows(&self, batch: &[LabelledSpan<'_>]) -> Result<TeacherRows, LmError> {
        let labelled = batch.iter().flat_map(|span| span.tokens.iter().zip(span.targets));
        let labelled = labelled.filter(|(_, target)| target.is_some());
        let logits = labelled.flat_map(|(token, _)| {
            let mut random = SplitMix::new(u64::from(*token) + 99);
            // Some rows are sure, some are not.
            let sharpness = (1 + token % 5) as f32 * 2.0;
            (0..self.vocab_size).map(move |_| random.next_f32() * sharpness)
        });
        Ok(TeacherRows::logits(logits.collect(), self.vocab_size).unwrap())
    }
}

/// The bytes of a cache written in one go.
pub(crate) fn written(path: &Path, header: CacheHeader, text: &Text) -> Vec<u8> {
    let (mut writer, _) = TeacherCacheWriter::create_or_resume(path, header).unwrap();
    let teacher = ByToken { vocab_size: header.vocab_size };
    writer.append(&text.spans(), &teacher.rows(&text.spans()).unwrap()).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}
