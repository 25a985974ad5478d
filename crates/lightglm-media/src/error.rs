//! `MediaError`: why a picture or a recording is not taken.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a picture or a recording is not taken. The texts hold neither addresses nor paths, so that they may go to whoever sent it;
/// that of [`MediaError::Damaged`] is in the words of a decoder, which a server keeps to itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The content is of no kind that is read.
    #[error("{found}: not {expected}")]
    Unsupported {
        /// What it seems to be.
        found: &'static str,
        /// What is read.
        expected: &'static str,
    },
    /// It is of a kind that is read, and something in it is wrong, or it ends too early.
    #[error("{format}: {reason}")]
    Damaged {
        /// Which kind.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// More bytes than are taken.
    #[error("{bytes} bytes: at most {limit} are taken")]
    TooManyBytes {
        /// How many.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More pixels than are taken.
    #[error("{width} x {height} pixels: at most {limit} are taken")]
    TooManyPixels {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// A side that is too long.
    #[error("{width} x {height} pixels: a side may have {limit} at most")]
    TooLong {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// No pixels at all.
    #[error("a picture of {width} x {height} pixels")]
    NoPixels {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Bytes that are not the pixels of such a picture.
    #[error("{bytes} bytes are not {width} x {height} pixels of three")]
    NotPixels {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// A picture that is far longer than wide, or the other way round.
    #[error(
        "{width} x {height} pixels: the longer side may be {limit} times the shorter one at most"
    )]
    TooNarrow {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// Settings with which no size fits.
    #[error(
        "{width} x {height} pixels fit no grid of {factor} pixels between {min_pixels} and {max_pixels} pixels"
    )]
    NoSize {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Sides are multiples of this.
        factor: usize,
        /// Pixels at least.
        min_pixels: usize,
        /// Pixels at most.
        max_pixels: usize,
    },
    /// A recording that is too long.
    #[error("a recording of more than {limit} seconds")]
    TooManySeconds {
        /// The limit.
        limit: f64,
    },
    /// A rate that is not taken.
    #[error("{rate} samples a second: {least} to {most} are taken")]
    Rate {
        /// The rate.
        rate: u32,
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// A number of channels that is not taken.
    #[error("{channels} channels: 1 to {limit} are taken")]
    Channels {
        /// How many.
        channels: usize,
        /// The limit.
        limit: usize,
    },
    /// A recording without a sample.
    #[error("a recording without a sample")]
    NoSamples,
    /// A sample that is not a number, or infinite.
    #[error("sample {index} is not a finite number")]
    NotFinite {
        /// Which, counting from 0.
        index: usize,
    },
}

impl MediaError {
    /// What kind of error it is, in a word that does not change: for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported_media",
            Self::Damaged { .. } => "damaged_media",
            Self::TooManyBytes { .. } => "media_too_large",
            Self::TooManyPixels { .. } | Self::TooLong { .. } => "picture_too_large",
            Self::NoPixels { .. }
            | Self::NotPixels { .. }
            | Self::NoSize { .. }
            | Self::TooNarrow { .. } => "picture_shape",
            Self::TooManySeconds { .. } => "recording_too_long",
            Self::Rate { .. } => "sample_rate",
            Self::Channels { .. } => "channels",
            Self::NoSamples => "no_samples",
            Self::NotFinite { .. } => "sample_not_finite",
        }
    }

    /// What `decode` returns. Decoders are written not to panic and are fuzzed; where one does, it is the file's fault.
    pub(crate) fn guard<T>(
        format: &'static str,
        decode: impl FnOnce() -> Result<T, Self>,
    ) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(decode))
            .unwrap_or_else(|_| Err(Self::damaged(format, "cannot be decoded")))
    }

    /// Something is wrong in a file of this kind. The reason is cut where it is long, and has no characters that could end a line.
    pub(crate) fn damaged(format: &'static str, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        Self::Damaged { format, reason }
    }
}
