//! Other rates, as torchaudio computes them.

use std::f64::consts::PI;

/// Zero crossings of the sinc to each side.
const CROSSINGS: f64 = 6.0;

/// Where the filter ends, of the lower of both rates' limits.
const ROLLOFF: f64 = 0.99;

/// Weights of phases that are kept at most; of rates that share no divisor each output has its own.
const KEPT: usize = 1 << 20;

/// Samples at another rate: a windowed sinc.
///
/// Source: `torchaudio.functional.resample` with its defaults (`sinc_interp_hann`, 6 zero crossings, roll-off 0.99). There the kernels
/// of all phases are one table of `new * (old + 2 width)` values, which two rates without a common divisor make as large as they
/// like; here only what is not zero is computed, in f64 where it
/// has f32.
pub(super) fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    let divisor = gcd(from, to);
    let (old, new) = (u64::from(from / divisor), u64::from(to / divisor));
    let length = (samples.len() as u64 * new).div_ceil(old);
    let filter = Filter::new(old, new);
    let mut phases: Vec<Option<(i64, Vec<f32>)>> = Vec::new();
    if new as usize * filter.taps() <= KEPT {
        phases.resize(new as usize, None);
    }
    let mut out = Vec::with_capacity(length as usize);
    for i in 0..length {
        // Where the output's step begins, and which of the step's outputs it is.
        let (start, phase) = ((i / new * old) as i64, i % new);
        match phases.get_mut(phase as usize) {
            Some(kept) => {
                let (first, weights) = kept.get_or_insert_with(|| filter.phase(phase));
                out.push(weighted(samples, start + *first, weights));
            }
            None => {
                let (first, weights) = filter.phase(phase);
                out.push(weighted(samples, start + first, &weights));
            }
        }
    }
    out
}

struct Filter {
    old: f64,
    new: f64,
    /// The lower of both rates, with the roll-off.
    lower: f64,
    /// Samples to each side.
    width: i64,
}

impl Filter {
    fn new(old: u64, new: u64) -> Self {
        let (old, new) = (old as f64, new as f64);
        let lower = old.min(new) * ROLLOFF;
        Self { old, new, lower, width: (CROSSINGS * old / lower).ceil() as i64 }
    }

    /// Weights of a phase at most.
    fn taps(&self) -> usize {
        2 * self.width as usize + 2
    }

    /// The first sample that an output of this phase is taken from, counted from its step, and the weights.
    fn phase(&self, phase: u64) -> (i64, Vec<f32>) {
        let middle = phase as f64 * self.old / self.new;
        let first = (middle.floor() as i64 - self.width).max(-self.width);
        let end = (middle.ceil() as i64 + self.width + 1).min(self.width + self.old as i64);
        let weight = |k: i64| {
            let t = (k as f64 / self.old - phase as f64 / self.new) * self.lower;
            let t = t.clamp(-CROSSINGS, CROSSINGS);
            let window = (t * PI / CROSSINGS / 2.0).cos().powi(2);
            let sinc = if t == 0.0 { 1.0 } else { (t * PI).sin() / (t * PI) };
            (sinc * window * self.lower / self.old) as f32
        };
        (first, (first..end).map(weight).collect())
    }
}

/// The weighted sum of the samples from `first` on; what is outside is silent.
fn weighted(samples: &[f32], first: i64, weights: &[f32]) -> f32 {
    let before = (-first).max(0) as usize;
    let begin = first.max(0) as usize;
    let (weights, samples) = (weights.get(before..), samples.get(begin..));
    let pairs = weights.unwrap_or_default().iter().zip(samples.unwrap_or_default());
    pairs.map(|(weight, sample)| f64::from(*weight) * f64::from(*sample)).sum::<f64>() as f32
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
