//! `TeacherCache`: a finished cache, mapped.

use std::path::{Path, PathBuf};

use lightglm_core::LabelledSpan;
use lightglm_kernels::{MappedFile, map_file};

use super::error::TeacherCacheError;
use super::header::{CacheHeader, HEADER_BYTES};
use super::index::Index;
use super::record::Record;
use super::row_code;
use super::span_key::span_key;
use crate::teacher_rows::TopRow;

/// A teacher's distributions in a mapped file; nothing but its index is in memory, 16 bytes for each span.
///
/// Each record is checked when it is read. As with every map, the file must not be cut short while it is open.
#[derive(Debug)]
pub struct TeacherCache {
    path: PathBuf,
    header: CacheHeader,
    file: MappedFile,
    index: Index,
    /// Where the records end.
    end: usize,
}

impl TeacherCache {
    /// Maps a finished cache.
    ///
    /// # Errors
    /// [`TeacherCacheError`]: the file is not there or no cache, it ends early, its index is damaged.
    pub fn open(path: &Path) -> Result<Self, TeacherCacheError> {
        let io = |source| TeacherCacheError::Io { path: path.into(), source };
        let file = map_file(path).map_err(io)?;
        let header = CacheHeader::from_bytes(path, file.bytes())?;
        let index = Index::read(file.bytes());
        let (index, end) = index.map_err(|reason| TeacherCacheError::Damaged {
            path: path.into(),
            offset: file.bytes().len() as u64,
            reason: reason.to_owned(),
        })?;
        Ok(Self { path: path.into(), header, file, index, end })
    }

    /// Refuses a cache of another teacher, text, vocabulary or temperature than is wanted, or stored otherwise.
    ///
    /// # Errors
    /// [`TeacherCacheError::Other`].
    pub fn expect(&self, wanted: &CacheHeader) -> Result<(), TeacherCacheError> {
        self.header.expect(&self.path, wanted)
    }

    /// What it is of.
    pub fn header(&self) -> &CacheHeader {
        &self.header
    }

    /// Spans.
    pub fn spans(&self) -> u64 {
        self.index.offsets.len() as u64
    }

    /// Rows of all spans.
    pub fn rows(&self) -> u64 {
        self.index.rows
    }

    /// The distributions behind a span's labelled tokens, in order.
    ///
    /// # Errors
    /// [`TeacherCacheError::UnknownSpan`], [`TeacherCacheError::Damaged`].
    pub fn of_span(&self, span: &LabelledSpan<'_>) -> Result<Vec<TopRow>, TeacherCacheError> {
        let labels = span.labels();
        let Some((record, offset)) = self.record(span)? else { return Ok(Vec::new()) };
        (0..labels).map(|row| self.decoded(&record, offset, row)).collect()
    }

    /// The distribution behind a span's labelled token, the first being 0; the others are not decoded.
    ///
    /// # Errors
    /// [`TeacherCacheError::UnknownSpan`], also where the span has no such token; [`TeacherCacheError::Damaged`].
    pub fn row(&self, span: &LabelledSpan<'_>, row: usize) -> Result<TopRow, TeacherCacheError> {
        match self.record(span)? {
            Some((record, offset)) if row < record.rows => self.decoded(&record, offset, row),
            _ => Err(self.unknown(span)),
        }
    }

    /// A span's record and where it begins; nothing for a span without labels.
    fn record(
        &self,
        span: &LabelledSpan<'_>,
    ) -> Result<Option<(Record<'_>, u64)>, TeacherCacheError> {
        let (key, labels) = (span_key(span), span.labels());
        if labels == 0 {
            return Ok(None);
        }
        let offset = *self.index.offsets.get(&key).ok_or_else(|| self.unknown(span))?;
        let begin = usize::try_from(offset).ok().filter(|begin| *begin >= HEADER_BYTES);
        let bytes = begin.and_then(|begin| self.file.bytes().get(begin..self.end));
        let record = bytes.ok_or("a record begins behind the last").and_then(Record::read);
        let record = record.map_err(|reason| self.damaged(offset, reason.to_owned()))?;
        if record.key != key || record.rows != labels {
            return Err(self.damaged(offset, "a record is another span's".to_owned()));
        }
        Ok(Some((record, offset)))
    }

    fn decoded(
        &self,
        record: &Record<'_>,
        offset: u64,
        row: usize,
    ) -> Result<TopRow, TeacherCacheError> {
        let bytes = record.row(row).ok_or_else(|| "a row lies outside of its record".to_owned());
        let top = bytes.and_then(|bytes| row_code::decode(bytes, self.header.vocab_size));
        top.map_err(|reason| self.damaged(offset, format!("row {row}: {reason}")))
    }

    fn damaged(&self, offset: u64, reason: String) -> TeacherCacheError {
        TeacherCacheError::Damaged { path: self.path.clone(), offset, reason }
    }

    fn unknown(&self, span: &LabelledSpan<'_>) -> TeacherCacheError {
        TeacherCacheError::UnknownSpan {
            path: self.path.clone(),
            key: span_key(span),
            tokens: span.tokens.len(),
            labels: span.labels(),
        }
    }
}
