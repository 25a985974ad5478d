//! A span's rows in a file, with their length before and their checksum behind them.
//!
//! ```text
//! bytes of the record u32, rows R u32, the span's key u64, where each row ends [R] u32, rows, checksum u64
//! ```

use super::header::{word32, word64};
use crate::mixing::Fnv;

/// Bytes before the ends of rows.
pub(super) const HEAD_BYTES: usize = 16;

const CHECKSUM_BYTES: usize = 8;

/// The bytes of a record.
pub(super) fn encode(key: u64, rows: &[Vec<u8>]) -> Result<Vec<u8>, &'static str> {
    let all: usize = rows.iter().map(|row| 4 + row.len()).sum();
    let bytes = HEAD_BYTES + all + CHECKSUM_BYTES;
    let len = u32::try_from(bytes).map_err(|_| "the rows of a span are more than 4 GiB")?;
    let mut record = Vec::with_capacity(bytes);
    record.extend(len.to_le_bytes());
    record.extend((rows.len() as u32).to_le_bytes());
    record.extend(key.to_le_bytes());
    let mut end = 0_u32;
    for row in rows {
        end += row.len() as u32;
        record.extend(end.to_le_bytes());
    }
    rows.iter().for_each(|row| record.extend(row));
    record.extend(Fnv::of(&record).to_le_bytes());
    Ok(record)
}

/// A record that is as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) key: u64,
    /// How many there are.
    pub(super) rows: usize,
    ends: &'a [u8],
    data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that `bytes` begins with.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let len = record_len(bytes).ok_or("a record ends early")?;
        let record = bytes.get(..len).ok_or("a record ends early")?;
        let (record, checksum) = record.split_at(len - CHECKSUM_BYTES);
        if Fnv::of(record) != word64(checksum) {
            return Err("a record has another checksum");
        }
        let (rows, key) = (word32(&record[4..]) as usize, word64(&record[8..]));
        let rest = &record[HEAD_BYTES..];
        let (ends, data) = rows
            .checked_mul(4)
            .and_then(|ends| rest.split_at_checked(ends))
            .ok_or("a record has no room for its rows")?;
        Ok(Self { key, rows, ends, data })
    }

    /// The bytes of a row.
    pub(super) fn row(&self, row: usize) -> Option<&'a [u8]> {
        let end = |row: usize| Some(word32(self.ends.get(row * 4..row * 4 + 4)?) as usize);
        let begin = match row {
            0 => 0,
            _ => end(row - 1)?,
        };
        self.data.get(begin..end(row)?)
    }
}

/// What a record's first bytes say of its length; `None` where they are too few, or it is none.
pub(super) fn record_len(head: &[u8]) -> Option<usize> {
    let len = (head.len() >= HEAD_BYTES).then(|| word32(head) as usize)?;
    (len >= HEAD_BYTES + CHECKSUM_BYTES).then_some(len)
}
