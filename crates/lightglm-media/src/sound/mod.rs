//! Recordings: files to samples, other rates, log-mel spectra.

mod decode;
mod mel;
mod pieces;
mod resample;

pub use mel::LogMel;

use std::ops::Range;

use crate::error::MediaError;
use crate::limits::MediaLimits;

/// A recording of one channel.
#[derive(Clone, PartialEq)]
pub struct Pcm {
    samples: Vec<f32>,
    rate: u32,
}

impl Pcm {
    /// Samples, mostly between -1 and 1, at so many a second.
    ///
    /// # Errors
    /// [`MediaError::Rate`] where that is 0, [`MediaError::NoSamples`], [`MediaError::NotFinite`].
    pub fn new(samples: Vec<f32>, rate: u32) -> Result<Self, MediaError> {
        if rate == 0 {
            return Err(MediaError::Rate { rate, least: 1, most: u32::MAX });
        }
        if samples.is_empty() {
            return Err(MediaError::NoSamples);
        }
        match samples.iter().position(|sample| !sample.is_finite()) {
            Some(index) => Err(MediaError::NotFinite { index }),
            None => Ok(Self { samples, rate }),
        }
    }

    /// The samples.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The samples, and nothing else.
    pub fn into_samples(self) -> Vec<f32> {
        self.samples
    }

    /// Pieces of at most so many seconds, one behind the other. A piece ends where it is quietest in its last third, so that
    /// words are not cut in two.
    pub fn pieces(&self, seconds: f64) -> Vec<Range<usize>> {
        pieces::pieces(&self.samples, self.rate, seconds)
    }

    /// Samples a second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Samples that so many become at another rate, without computing them; 0 where a rate is.
    pub fn resampled_len(samples: usize, from: u32, to: u32) -> usize {
        if from == 0 {
            0
        } else {
            (samples as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize
        }
    }

    /// The recording at another rate, of as many seconds.
    ///
    /// # Errors
    /// [`MediaError::Rate`] where that is 0.
    pub fn resampled(&self, rate: u32) -> Result<Self, MediaError> {
        if rate == 0 {
            return Err(MediaError::Rate { rate, least: 1, most: u32::MAX });
        }
        let samples = match rate == self.rate {
            true => self.samples.clone(),
            false => resample::resample(&self.samples, self.rate, rate),
        };
        Ok(Self { samples, rate })
    }

    /// Decodes a WAV, FLAC, MP3 or Ogg Vorbis file; several channels become their mean.
    ///
    /// # Errors
    /// [`MediaError`]: what it is instead, what is wrong in it, which limit it passes.
    pub fn decode(bytes: &[u8], limits: &MediaLimits) -> Result<Self, MediaError> {
        decode::decode(bytes, limits)
    }
}

impl std::fmt::Debug for Pcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pcm({} samples at {}/s)", self.samples.len(), self.rate)
    }
}
