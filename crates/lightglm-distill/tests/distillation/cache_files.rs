//! Caches as files: killed writers, finished ones, and those of something else.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm_core::{LabelledSpan, LmError};
use lightglm_distill::{
    CacheHeader, CachedTeacher, DistillError, Teacher, TeacherCache, TeacherCacheError,
    TeacherCacheWriter, TeacherRows, TopRow, fill_cache,
};

use crate::text::{ByToken, Text, written};

const VOCAB_SIZE: usize = 60;

fn text() -> Text {
    Text::new(7, 9, VOCAB_SIZE, 5)
}

fn header(text: &Text) -> CacheHeader {
    CacheHeader { bytes_per_row: 64, ..CacheHeader::new(VOCAB_SIZE, 42, &text.spans()) }
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("cache.partial")
}

/// Whatever part of its file a killed writer left, the one that goes on writes the same bytes.
#[test]
fn a_killed_writer_is_gone_on_with_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (text, teacher) = (text(), ByToken { vocab_size: VOCAB_SIZE });
    let (spans, header) = (text.spans(), header(&text));
    let whole = written(&folder.path().join("whole.cache"), header, &text);
    let path = folder.path().join("torn.cache");
    for len in 0..=whole.len() {
        std::fs::write(partial(&path), &whole[..len]).unwrap();
        let (mut writer, found) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
        assert_eq!(writer.rows(), found.rows);
        // The length that the file now has, and what was cut off.
        let kept = std::fs::metadata(partial(&path)).unwrap().len();
        assert!(len < 64 || kept + found.dropped_bytes == len as u64, "{len}: {found:?}");
        // One example at a time, though the whole was written at once.
        for span in &spans {
            writer.append(&[*span], &teacher.rows(&[*span]).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{len}");
        assert!(!partial(&path).exists());
        std::fs::remove_file(&path).unwrap();
    }
}

/// What is behind a damaged record is written anew.
#[test]
fn a_damaged_unfinished_file_is_cut_where_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (text, teacher) = (text(), ByToken { vocab_size: VOCAB_SIZE });
    let (spans, header) = (text.spans(), header(&text));
    let whole = written(&folder.path().join("whole.cache"), header, &text);
    let path = folder.path().join("torn.cache");
    for at in 64..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(partial(&path), &bytes).unwrap();
        let (mut writer, _) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
        writer.append(&spans, &teacher.rows(&spans).unwrap()).unwrap();
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{at}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn filling_is_interrupted_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (text, teacher) = (text(), ByToken { vocab_size: VOCAB_SIZE });
    let (spans, header) = (text.spans(), header(&text));
    let whole = written(&folder.path().join("whole.cache"), header, &text);
    let path = folder.path().join("filled.cache");
    let mut calls = 0;
    loop {
        let mut newly = 0;
        let mut watch = |progress: lightglm_distill::FillProgress| {
            assert_eq!(progress.of, spans.len());
            newly = progress.rows;
            // After the first batch that is new.
            if progress.rows > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let filled = fill_cache(&path, header, &teacher, &spans, 12, &mut watch).unwrap();
        calls += 1;
        if filled.is_continue() {
            assert_eq!(newly, 0);
            break;
        }
        let unfinished = TeacherCache::open(&path).unwrap_err();
        assert!(matches!(unfinished, TeacherCacheError::Io { .. }), "{unfinished}");
    }
    assert!(calls > 2, "{calls}");
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    // A finished one is left as it is, and looked at.
    let never = |_: &[LabelledSpan<'_>]| -> Result<_, LmError> { panic!("it was asked again") };
    let never = lightglm_distill::LiveTeacher::<_, burn_flex::Flex>::new(never);
    let mut watch = |_: lightglm_distill::FillProgress| ControlFlow::Continue(());
    assert!(fill_cache(&path, header, &never, &spans, 12, &mut watch).unwrap().is_continue());
    let other = CacheHeader { teacher: 43, ..header };
    let error = fill_cache(&path, other, &never, &spans, 12, &mut watch).unwrap_err().to_string();
    assert!(error.ends_with("teacher is 000000000000002a, not 000000000000002b"), "{error}");
}

/// Spans are found by what they say, whatever the order and the batches.
#[test]
fn spans_are_found_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.cache");
    let text = text();
    let header = CacheHeader { bytes_per_row: 400, ..header(&text) };
    written(&path, header, &text);
    let cache = TeacherCache::open(&path).unwrap();
    let mut spans = text.spans();
    assert_eq!(cache.spans(), spans.len() as u64);
    assert_eq!(cache.rows(), spans.iter().map(|span| span.labels() as u64).sum::<u64>());
    let each: Vec<Vec<TopRow>> = spans.iter().map(|span| cache.of_span(span).unwrap()).collect();
    for (span, rows) in spans.iter().zip(&each) {
        assert_eq!(rows.len(), span.labels());
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(cache.row(span, at).unwrap(), *row);
        }
        let beyond = cache.row(span, rows.len()).unwrap_err();
        assert!(matches!(beyond, TeacherCacheError::UnknownSpan { .. }), "{beyond}");
    }
    spans.reverse();
    spans.push(LabelledSpan::text(&[1, 2], &[None, None]));
    let reversed: Vec<TopRow> = each.iter().rev().flatten().cloned().collect();
    let reversed = TeacherRows::top(reversed, VOCAB_SIZE, 1.0).unwrap();
    let teacher = CachedTeacher::new(cache);
    assert_eq!(teacher.rows(&spans).unwrap(), reversed);
    // The same tokens with another target are another text.
    let first = spans[0];
    let mut targets = first.targets.to_vec();
    targets[0] = Some(targets[0].unwrap() ^ 1);
    let other = LabelledSpan::text(first.tokens, &targets);
    match teacher.rows(&[first, other]) {
        Err(LmError::Objective { reason }) => {
            assert!(reason.contains("any.cache: it has no span"), "{reason}");
            assert!(reason.ends_with("it was made of another text"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cache_of_something_else_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.cache");
    let text = text();
    let header = header(&text);
    written(&path, header, &text);
    let cache = TeacherCache::open(&path).unwrap();
    cache.expect(&header).unwrap();
    assert_eq!(*cache.header(), header);
    let others = [
        (CacheHeader { vocab_size: 61, ..header }, "vocabulary is 60, not 61"),
        (CacheHeader { temperature: 2.0, ..header }, "temperature is 1, not 2"),
        (CacheHeader { teacher: 1, ..header }, "teacher is 000000000000002a, not 0000000000000001"),
        (CacheHeader { text: header.text ^ 1, ..header }, "text is "),
        (CacheHeader { bytes_per_row: 65, ..header }, "limit of a row is 64, not 65"),
        (CacheHeader { seed: 1, ..header }, "seed is 0, not 1"),
    ];
    let unfinished = folder.path().join("two.cache");
    drop(TeacherCacheWriter::create_or_resume(&unfinished, header).unwrap());
    for (other, words) in others {
        let error = cache.expect(&other).unwrap_err().to_string();
        assert!(error.contains("one.cache") && error.contains(words), "{error}");
        let error = TeacherCacheWriter::create_or_resume(&unfinished, other).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("two.cache.partial") && error.contains(words), "{error}");
    }
    let error = TeacherCacheWriter::create_or_resume(&path, header).unwrap_err();
    assert!(matches!(error, TeacherCacheError::Finished { .. }), "{error}");
    // The rows are refused by an objective of another temperature, and one of another vocabulary.
    let rows = CachedTeacher::new(cache).rows(&text.spans()).unwrap();
    let wanted = rows.check(rows.len(), VOCAB_SIZE, 2.0).unwrap_err();
    assert_eq!(wanted, DistillError::Temperature { teacher: 1.0, wanted: 2.0 });
    let wanted = rows.check(rows.len(), 61, 1.0).unwrap_err();
    assert_eq!(wanted, DistillError::Vocabulary { teacher: 60, student: 61 });
}

#[test]
fn what_cannot_be_stored_is_refused_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.cache");
    let text = text();
    let (spans, header) = (text.spans(), header(&text));
    let refused = |error: TeacherCacheError| match error {
        TeacherCacheError::Rows { source, .. } => source,
        other => panic!("{other}"),
    };
    for wrong in [
        CacheHeader { temperature: 0.0, ..header },
        CacheHeader { bytes_per_row: 31, ..header },
        CacheHeader { vocab_size: 0, ..header },
    ] {
        let error = refused(TeacherCacheWriter::create_or_resume(&path, wrong).unwrap_err());
        assert!(matches!(error, DistillError::Setting { .. }), "{error}");
    }
    let (mut writer, _) = TeacherCacheWriter::create_or_resume(&path, header).unwrap();
    let busy = TeacherCacheWriter::create_or_resume(&path, header).unwrap_err();
    assert!(matches!(busy, TeacherCacheError::InUse { .. }), "{busy}");
    let teacher = ByToken { vocab_size: VOCAB_SIZE };
    let few = teacher.rows(&spans[1..]).unwrap();
    let error = refused(writer.append(&spans, &few).unwrap_err());
    assert!(matches!(error, DistillError::Rows { .. }), "{error}");
    let other = ByToken { vocab_size: 5 }.rows(&spans).unwrap();
    let error = refused(writer.append(&spans, &other).unwrap_err());
    assert!(matches!(error, DistillError::Vocabulary { .. }), "{error}");
    let top = TopRow::of_logits(&[0.0; VOCAB_SIZE], 2, 1.0).unwrap();
    let top = TeacherRows::top(vec![top; few.len()], VOCAB_SIZE, 1.0).unwrap();
    assert_eq!(refused(writer.append(&spans[1..], &top).unwrap_err()), DistillError::NotWhole);
    writer.append(&spans, &teacher.rows(&spans).unwrap()).unwrap();
    // What is there is not written twice.
    let rows = writer.rows();
    writer.append(&spans, &teacher.rows(&spans).unwrap()).unwrap();
    assert_eq!(writer.rows(), rows);
    writer.finish().unwrap();
    let whole = written(&folder.path().join("whole.cache"), header, &text);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn another_file_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.cache");
    let text = text();
    for notes in ["short", &"long ".repeat(50)] {
        std::fs::write(partial(&path), notes).unwrap();
        let error = TeacherCacheWriter::create_or_resume(&path, header(&text)).unwrap_err();
        assert!(matches!(error, TeacherCacheError::NotACache { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(partial(&path)).unwrap(), notes);
    }
}
