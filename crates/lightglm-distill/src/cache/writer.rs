//! `TeacherCacheWriter`: a cache as it grows.

use std::fs::{File, TryLockError};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lightglm_core::LabelledSpan;
use rayon::prelude::*;

use super::error::TeacherCacheError;
use super::header::{CacheHeader, HEADER_BYTES};
use super::index::Index;
use super::record::{self, HEAD_BYTES, Record, record_len};
use super::row_code;
use super::span_key::span_key;
use crate::error::DistillError;
use crate::mixing::mixed;
use crate::teacher_rows::TeacherRows;

/// Writes what a teacher says, span by span, to the file's name with `.partial` behind it; [`finish`](Self::finish)
/// gives it its own.
///
/// A writer that was killed is gone on with: whatever it wrote whole stays, and the file is byte for byte the one that
/// is written in one go, where spans come in the same order and the teacher says the same.
#[derive(Debug)]
pub struct TeacherCacheWriter {
    header: CacheHeader,
    path: PathBuf,
    partial: PathBuf,
    file: File,
    index: Index,
    /// Where the last whole record ends.
    end: u64,
}

/// What was there when a writer began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Spans.
    pub spans: u64,
    /// Rows of these spans.
    pub rows: u64,
    /// Bytes behind the last whole record, which were cut off.
    pub dropped_bytes: u64,
}

impl TeacherCacheWriter {
    /// Begins the cache `path`, or goes on with its unfinished file. Says what was there.
    ///
    /// # Errors
    /// [`TeacherCacheError`]: the cache is finished, somebody else writes it, or the unfinished file is of something
    /// else than `header`.
    pub fn create_or_resume(
        path: &Path,
        header: CacheHeader,
    ) -> Result<(Self, Resumed), TeacherCacheError> {
        header.check().map_err(|source| TeacherCacheError::Rows { path: path.into(), source })?;
        if path.exists() {
            return Err(TeacherCacheError::Finished { path: path.into() });
        }
        let partial = partial_path(path);
        let io = |source| TeacherCacheError::Io { path: partial.clone(), source };
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&partial).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TeacherCacheError::InUse { path: partial });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut writer =
            Self { header, path: path.into(), partial, file, index: Index::default(), end: 0 };
        let resumed = writer.scan()?;
        Ok((writer, resumed))
    }

    /// Finds the whole records, and cuts off what is behind them.
    fn scan(&mut self) -> Result<Resumed, TeacherCacheError> {
        let partial = self.partial.clone();
        let io = |source| TeacherCacheError::Io { path: partial.clone(), source };
        let len = self.file.metadata().map_err(io)?.len();
        let mut reader = BufReader::new(&self.file);
        let mut begin = Vec::with_capacity(HEADER_BYTES);
        reader.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut begin).map_err(io)?;
        let wanted = self.header.to_bytes();
        // One that was killed while it wrote its header has no record.
        if begin.len() < HEADER_BYTES && wanted.starts_with(&begin) {
            self.write_at(0, &wanted)?;
            self.end = HEADER_BYTES as u64;
            return Ok(Resumed::default());
        }
        CacheHeader::from_bytes(&self.partial, &begin)?.expect(&self.partial, &self.header)?;
        let mut end = HEADER_BYTES as u64;
        let mut index = Index::default();
        let mut bytes = Vec::new();
        while let Some(record) = next_record(&mut reader, len - end, &mut bytes).map_err(io)? {
            index.offsets.insert(record.key, end);
            index.rows += record.rows as u64;
            end += bytes.len() as u64;
        }
        self.file.set_len(end).map_err(io)?;
        (self.index, self.end) = (index, end);
        let (spans, rows) = (self.index.offsets.len() as u64, self.index.rows);
        Ok(Resumed { spans, rows, dropped_bytes: len - end })
    }

    /// Whether a span is there.
    pub fn contains(&self, span: &LabelledSpan<'_>) -> bool {
        self.index.offsets.contains_key(&span_key(span))
    }

    /// Rows that are there.
    pub fn rows(&self) -> u64 {
        self.index.rows
    }

    /// Writes the rows of a batch's labelled tokens, as a [`Teacher`](crate::Teacher) gives them. Spans that are
    /// there, or have no label, are passed over.
    ///
    /// # Errors
    /// [`TeacherCacheError`]: rows of another number or vocabulary than the batch and the header have, rows that are
    /// no whole distributions, or a disk that is full. The spans before are written then, and the writer stays usable.
    pub fn append(
        &mut self,
        batch: &[LabelledSpan<'_>],
        rows: &TeacherRows,
    ) -> Result<(), TeacherCacheError> {
        let CacheHeader { vocab_size, temperature, .. } = self.header;
        let labels = batch.iter().map(LabelledSpan::labels).sum();
        let whole = rows.check(labels, vocab_size, temperature);
        let whole = whole.and_then(|()| rows.whole().ok_or(DistillError::NotWhole));
        let path = self.path.clone();
        let mut rest = whole.map_err(|source| TeacherCacheError::Rows { path, source })?;
        for span in batch {
            let labels = span.labels();
            let logits;
            (logits, rest) = rest.split_at(labels * vocab_size);
            if labels == 0 || self.contains(span) {
                continue;
            }
            let key = span_key(span);
            let record = self.record(key, logits)?;
            self.write_at(self.end, &record)?;
            self.index.offsets.insert(key, self.end);
            self.index.rows += labels as u64;
            self.end += record.len() as u64;
        }
        Ok(())
    }

    /// The record of a span whose teacher says `logits: [R, V]`.
    fn record(&self, key: u64, logits: &[f32]) -> Result<Vec<u8>, TeacherCacheError> {
        let CacheHeader { vocab_size, temperature, bytes_per_row, seed, .. } = self.header;
        let of_span = mixed(seed, key);
        let rows = logits.par_chunks_exact(vocab_size).enumerate().map(|(row, logits)| {
            let budget = bytes_per_row - ROW_END_BYTES;
            row_code::encode(logits, temperature, budget, mixed(of_span, row as u64))
        });
        let record = record::encode(key, &rows.collect::<Vec<_>>());
        record.map_err(|reason| {
            let source = DistillError::TopRow { row: 0, reason: reason.to_owned() };
            TeacherCacheError::Rows { path: self.path.clone(), source }
        })
    }

    /// Writes where the spans are, has the system store all of it, and gives the file its name.
    ///
    /// # Errors
    /// [`TeacherCacheError::Io`]; the unfinished file can be gone on with.
    pub fn finish(mut self) -> Result<(), TeacherCacheError> {
        let index = self.index.to_bytes(self.end);
        self.write_at(self.end, &index)?;
        let (partial, path) = (self.partial.clone(), self.path.clone());
        let cut = self.file.set_len(self.end + index.len() as u64);
        let synced = cut.and_then(|()| self.file.sync_all());
        synced.map_err(|source| TeacherCacheError::Io { path: partial.clone(), source })?;
        let renamed = std::fs::rename(&partial, &path);
        renamed.map_err(|source| TeacherCacheError::Io { path, source })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TeacherCacheError> {
        let mut file = &self.file;
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        written.map_err(|source| TeacherCacheError::Io { path: self.partial.clone(), source })
    }
}

/// What a row takes in its record's list of ends.
const ROW_END_BYTES: usize = 4;

/// Where a cache is while it is not finished.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// The next record, where the `left` bytes of the file hold a whole one; it is read into `bytes`.
fn next_record<'a>(
    reader: &mut impl Read,
    left: u64,
    bytes: &'a mut Vec<u8>,
) -> std::io::Result<Option<Record<'a>>> {
    bytes.clear();
    reader.take(HEAD_BYTES as u64).read_to_end(bytes)?;
    let Some(len) = record_len(bytes).filter(|len| *len as u64 <= left) else { return Ok(None) };
    reader.take((len - HEAD_BYTES) as u64).read_to_end(bytes)?;
    Ok(Record::read(bytes).ok())
}
