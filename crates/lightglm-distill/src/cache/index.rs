//! The end of a finished file: where each span's record is.
//!
//! ```text
//! by ascending key: key u64, offset of the record u64
//! where this begins u64, spans u64, rows u64, checksum of index and these u64, magic [8]
//! ```

use std::collections::HashMap;

use super::header::{HEADER_BYTES, word64};
use crate::mixing::Fnv;

const MAGIC: &[u8; 8] = b"\nLGTEND\n";
const ENTRY_BYTES: usize = 16;
const TRAILER_BYTES: usize = 40;

/// Where each span's record is.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) offsets: HashMap<u64, u64>,
    /// Of all spans.
    pub(super) rows: u64,
}

impl Index {
    /// The bytes behind the last record, which ends at `begin`.
    pub(super) fn to_bytes(&self, begin: u64) -> Vec<u8> {
        let mut entries: Vec<(u64, u64)> = self.offsets.iter().map(|(k, at)| (*k, *at)).collect();
        entries.sort_unstable();
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES + TRAILER_BYTES);
        for (key, offset) in entries {
            bytes.extend(key.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        for word in [begin, self.offsets.len() as u64, self.rows] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(Fnv::of(&bytes).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// The index of a finished file, and where it begins; what is wrong where there is none.
    pub(super) fn read(file: &[u8]) -> Result<(Self, usize), &'static str> {
        let early = "the file ends early";
        let last = file.len().checked_sub(TRAILER_BYTES).ok_or(early)?;
        let trailer = &file[last..];
        if trailer[32..] != *MAGIC {
            return Err(early);
        }
        let begin = usize::try_from(word64(trailer)).ok();
        let begin = begin.filter(|begin| (HEADER_BYTES..=last).contains(begin));
        let begin = begin.ok_or("the index begins outside of the file")?;
        if Fnv::of(&file[begin..last + 24]) != word64(&trailer[24..]) {
            return Err("the index has another checksum");
        }
        let entries = file[begin..last].chunks_exact(ENTRY_BYTES);
        if !entries.remainder().is_empty() || entries.len() as u64 != word64(&trailer[8..]) {
            return Err("the index has another length");
        }
        let offsets = entries.map(|entry| (word64(entry), word64(&entry[8..]))).collect();
        Ok((Self { offsets, rows: word64(&trailer[16..]) }, begin))
    }
}
