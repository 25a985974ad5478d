//! `MediaLimits`: what is taken at most.

use crate::error::MediaError;

/// What is taken at most. Sizes and lengths are checked by what the header declares, before anything of that size is allocated, and
/// again while a recording is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediaLimits {
    /// Bytes of a file.
    pub bytes: usize,
    /// Pixels of a picture.
    pub pixels: u64,
    /// Pixels of a side.
    pub side: u32,
    /// How many times the shorter side the longer one may be.
    pub aspect: u32,
    /// Seconds of a recording.
    pub seconds: f64,
    /// Channels of a recording.
    pub channels: usize,
    /// The smallest rate, in samples a second.
    pub least_rate: u32,
    /// The largest rate.
    pub most_rate: u32,
}

/// 32 MiB, 33.5 million pixels with sides up to 16,384 and up to 200 times the other one; half an hour of up to 8 channels at
/// 4,000 to 192,000 samples a second.
impl Default for MediaLimits {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            pixels: 1 << 25,
            side: 1 << 14,
            aspect: 200,
            seconds: 1800.0,
            channels: 8,
            least_rate: 4_000,
            most_rate: 192_000,
        }
    }
}

impl MediaLimits {
    /// Whether a file of so many bytes is taken.
    ///
    /// # Errors
    /// [`MediaError::TooManyBytes`].
    pub fn check_bytes(&self, bytes: usize) -> Result<(), MediaError> {
        let limit = self.bytes;
        if bytes > limit { Err(MediaError::TooManyBytes { bytes, limit }) } else { Ok(()) }
    }

    /// Whether a picture of this size is taken.
    ///
    /// # Errors
    /// [`MediaError::NoPixels`], [`MediaError::TooLong`], [`MediaError::TooNarrow`], [`MediaError::TooManyPixels`].
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), MediaError> {
        let (shorter, longer) = (width.min(height), width.max(height));
        if shorter == 0 {
            return Err(MediaError::NoPixels { width, height });
        }
        if longer > self.side {
            return Err(MediaError::TooLong { width, height, limit: self.side });
        }
        if u64::from(longer) > u64::from(shorter) * u64::from(self.aspect) {
            return Err(MediaError::TooNarrow { width, height, limit: self.aspect });
        }
        if u64::from(width) * u64::from(height) > self.pixels {
            return Err(MediaError::TooManyPixels { width, height, limit: self.pixels });
        }
        Ok(())
    }

    /// Whether a recording of this rate and so many channels is taken.
    ///
    /// # Errors
    /// [`MediaError::Rate`], [`MediaError::Channels`].
    pub fn check_sound(&self, rate: u32, channels: usize) -> Result<(), MediaError> {
        let (least, most) = (self.least_rate.max(1), self.most_rate);
        if !(least..=most).contains(&rate) {
            return Err(MediaError::Rate { rate, least, most });
        }
        if !(1..=self.channels).contains(&channels) {
            return Err(MediaError::Channels { channels, limit: self.channels });
        }
        Ok(())
    }

    /// Samples of a recording at most.
    pub(crate) fn samples(&self, rate: u32) -> u64 {
        (self.seconds * f64::from(rate)) as u64
    }
}
