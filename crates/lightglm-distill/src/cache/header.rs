//! `CacheHeader`: what a cache is of.
//!
//! ```text
//! magic [8], version u32, vocab_size u32, temperature f64, bytes_per_row u32, 0 u32,
//! seed u64, teacher u64, text u64, checksum of all this u64        (little-endian, 64 bytes)
//! ```

use std::path::Path;

use lightglm_core::LabelledSpan;

use super::error::TeacherCacheError;
use super::span_key::text_hash;
use crate::error::DistillError;
use crate::mixing::Fnv;
use crate::teacher_rows::check_temperature;

const MAGIC: &[u8; 8] = b"LGTEACH\n";
const VERSION: u32 = 1;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 64;

/// Of which teacher and text a cache is, and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheHeader {
    /// Tokens that the distributions are over.
    pub vocab_size: usize,
    /// The temperature of the distributions.
    pub temperature: f64,
    /// The most that a row takes: 32 to 65,536 bytes. A row that needs less takes less.
    pub bytes_per_row: usize,
    /// Decides which tokens are drawn from the tails.
    pub seed: u64,
    /// What the teacher is known by: a hash of its weights, say.
    pub teacher: u64,
    /// What text and labels are known by: [`text_hash`], say.
    pub text: u64,
}

impl CacheHeader {
    /// Of a teacher's answers to these examples, at temperature 1 and at most 300 bytes a row where spans have six
    /// labelled tokens or more (a span takes 40 bytes besides, the file 104).
    pub fn new(vocab_size: usize, teacher: u64, examples: &[LabelledSpan<'_>]) -> Self {
        Self {
            vocab_size,
            temperature: 1.0,
            bytes_per_row: 292,
            seed: 0,
            teacher,
            text: text_hash(examples),
        }
    }

    /// Refuses what no cache can be of.
    ///
    /// # Errors
    /// [`DistillError::Setting`].
    pub fn check(&self) -> Result<(), DistillError> {
        check_temperature(self.temperature)?;
        let setting = |setting, value: usize, expected| {
            Err(DistillError::Setting { setting, value: value as f64, expected })
        };
        if !(32..=65_536).contains(&self.bytes_per_row) {
            return setting("bytes_per_row", self.bytes_per_row, "it must be 32 to 65536");
        }
        if self.vocab_size == 0 || u32::try_from(self.vocab_size).is_err() {
            return setting("vocab_size", self.vocab_size, "it must be above 0 and below 2^32");
        }
        Ok(())
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.vocab_size as u32).to_le_bytes());
        bytes.extend(self.temperature.to_le_bytes());
        bytes.extend((self.bytes_per_row as u32).to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        for word in [self.seed, self.teacher, self.text] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(Fnv::of(&bytes).to_le_bytes());
        std::array::from_fn(|at| bytes[at])
    }

    /// The header that `file` begins with.
    pub(super) fn from_bytes(path: &Path, file: &[u8]) -> Result<Self, TeacherCacheError> {
        let not = |reason: String| TeacherCacheError::NotACache { path: path.into(), reason };
        let Some(bytes) = file.first_chunk::<HEADER_BYTES>() else {
            return Err(not(format!("it has {} bytes, a header has {HEADER_BYTES}", file.len())));
        };
        if !bytes.starts_with(MAGIC) {
            return Err(not("it begins otherwise".to_owned()));
        }
        let (at_8, at_16) = (&bytes[8..], &bytes[16..]);
        let version = word32(at_8);
        if version != VERSION {
            return Err(not(format!("it is of version {version}, known is {VERSION}")));
        }
        let header = Self {
            vocab_size: word32(&at_8[4..]) as usize,
            temperature: f64::from_bits(word64(at_16)),
            bytes_per_row: word32(&at_16[8..]) as usize,
            seed: word64(&bytes[32..]),
            teacher: word64(&bytes[40..]),
            text: word64(&bytes[48..]),
        };
        if *bytes != header.to_bytes() {
            let reason = "its header has another checksum".to_owned();
            return Err(TeacherCacheError::Damaged { path: path.into(), offset: 0, reason });
        }
        header.check().map_err(|source| TeacherCacheError::Rows { path: path.into(), source })?;
        Ok(header)
    }

    /// Refuses the header of another cache than is wanted.
    pub(super) fn expect(&self, path: &Path, wanted: &Self) -> Result<(), TeacherCacheError> {
        let hex = |word: u64| format!("{word:016x}");
        let fields = [
            ("vocabulary", self.vocab_size.to_string(), wanted.vocab_size.to_string()),
            ("temperature", self.temperature.to_string(), wanted.temperature.to_string()),
            ("teacher", hex(self.teacher), hex(wanted.teacher)),
            ("text", hex(self.text), hex(wanted.text)),
            ("limit of a row", self.bytes_per_row.to_string(), wanted.bytes_per_row.to_string()),
            ("seed", self.seed.to_string(), wanted.seed.to_string()),
        ];
        match fields.into_iter().find(|(_, cached, wanted)| cached != wanted) {
            None => Ok(()),
            Some((field, cached, wanted)) => {
                Err(TeacherCacheError::Other { path: path.into(), field, cached, wanted })
            }
        }
    }
}

/// The number that `bytes` begins with; 0 where they are too few.
pub(super) fn word32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The number that `bytes` begins with; 0 where they are too few.
pub(super) fn word64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
