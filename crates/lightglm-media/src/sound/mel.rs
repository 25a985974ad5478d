//! Log-mel spectra, as Whisper's family reads them.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples a second that spectra are made of.
const RATE: f64 = 16_000.0;

/// Samples of a window.
const WINDOW: usize = 400;

/// Samples from a window to the next one.
const HOP: usize = 160;

/// Makes log-mel spectra of recordings of 16,000 samples a second: windows of 25 ms every 10 ms.
///
/// Source: transformers' `WhisperFeatureExtractor`: periodic Hann window, centred with reflected ends, power, Slaney's mel scale and
/// norm, log10 of at least 1e-10, at most 8 below the loudest, `(x + 4) / 4`.
pub struct LogMel {
    mels: usize,
    /// `[mels, WINDOW / 2 + 1]`.
    filters: Vec<f64>,
    window: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
}

impl LogMel {
    /// Samples a second that it takes.
    pub const RATE: u32 = RATE as u32;

    /// Samples from a frame to the next one.
    pub const HOP: usize = HOP;

    /// Of so many bands.
    pub fn new(mels: usize) -> Self {
        let hann = |i: usize| 0.5 - 0.5 * (2.0 * PI * i as f64 / WINDOW as f64).cos();
        Self {
            mels,
            filters: filters(mels),
            window: (0..WINDOW).map(hann).collect(),
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
        }
    }

    /// Bands.
    pub fn mels(&self) -> usize {
        self.mels
    }

    /// Frames of so many samples.
    pub fn frames(&self, samples: usize) -> usize {
        samples / HOP
    }

    /// `[mels, frames]` of a recording of 16,000 samples a second that is followed by silence to `samples` at least.
    pub fn padded(&self, recording: &[f32], samples: usize) -> Vec<f32> {
        let mut padded = recording.to_vec();
        padded.resize(samples.max(recording.len()), 0.0);
        self.features(&padded)
    }

    /// `[mels, frames]` of a recording of 16,000 samples a second; nothing where it has no frame.
    pub fn features(&self, recording: &[f32]) -> Vec<f32> {
        let frames = self.frames(recording.len());
        let bins = WINDOW / 2 + 1;
        let mut spectra = vec![0f64; self.mels * frames];
        let mut input = self.fft.make_input_vec();
        let mut output = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0f64; bins];
        for frame in 0..frames {
            let begin = (frame * HOP) as i64 - (WINDOW / 2) as i64;
            for (i, (value, window)) in input.iter_mut().zip(&self.window).enumerate() {
                *value =
                    window * f64::from(recording[reflected(begin + i as i64, recording.len())]);
            }
            // Lengths are the plan's own.
            let _ = self.fft.process_with_scratch(&mut input, &mut output, &mut scratch);
            for (power, value) in power.iter_mut().zip(&output) {
                *power = Complex::norm_sqr(value);
            }
            for (mel, filter) in self.filters.chunks_exact(bins).enumerate() {
                let sum: f64 =
                    filter.iter().zip(&power).map(|(weight, power)| weight * power).sum();
                spectra[mel * frames + frame] = sum.max(1e-10).log10();
            }
        }
        let loudest = spectra.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        spectra.iter().map(|&value| ((value.max(loudest - 8.0) + 4.0) / 4.0) as f32).collect()
    }
}

impl std::fmt::Debug for LogMel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogMel({} bands)", self.mels)
    }
}

/// A place in a recording that is mirrored at its ends, as often as it takes.
fn reflected(at: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last <= 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    (if at > last { 2 * last - at } else { at }) as usize
}

/// Triangles `[mels, WINDOW / 2 + 1]` over frequencies up to half the rate, each of area 1 on Slaney's scale.
fn filters(mels: usize) -> Vec<f64> {
    let bins = WINDOW / 2 + 1;
    let top = mel_of(RATE / 2.0);
    let edges: Vec<f64> =
        (0..mels + 2).map(|i| hertz_of(top * i as f64 / (mels + 1) as f64)).collect();
    let mut filters = vec![0f64; mels * bins];
    for (mel, filter) in filters.chunks_exact_mut(bins).enumerate() {
        let (low, middle, high) = (edges[mel], edges[mel + 1], edges[mel + 2]);
        for (bin, weight) in filter.iter_mut().enumerate() {
            let frequency = RATE / 2.0 * bin as f64 / (bins - 1) as f64;
            let up = (frequency - low) / (middle - low);
            let down = (high - frequency) / (high - middle);
            *weight = up.min(down).max(0.0) * 2.0 / (high - low);
        }
    }
    filters
}

/// Slaney's scale: linear to 1,000 Hz, logarithmic above.
fn mel_of(hertz: f64) -> f64 {
    if hertz < 1000.0 {
        3.0 * hertz / 200.0
    } else {
        15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4f64.ln()
    }
}

fn hertz_of(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 * mel / 3.0 } else { 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp() }
}
