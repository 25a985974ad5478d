//! `ActivationStatistics`: how large the inputs of each projection are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::fault::Fault;
use crate::{Recorder, SparsityError, Threshold, Thresholds};

/// Bits of a magnitude that tell its bin: the exponent and the upper seven bits of the mantissa, so
/// that bins are 0.8 % wide at most.
const SHIFT: u32 = 16;
/// Bins of the magnitudes of f32, the infinite and NaN left out.
const BINS: usize = (0x7f80_0000u32 >> SHIFT) as usize;

/// Counts magnitudes `|x|` of each projection's input in bins of constant relative width: the memory
/// it needs does not depend on how much text it sees.
#[derive(Debug, Default)]
pub struct ActivationStatistics {
    recorded: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    projections: BTreeMap<String, Histogram>,
    /// The first projection whose input was at fault, and how.
    failed: Option<(String, Fault)>,
}

#[derive(Debug)]
struct Histogram {
    width: usize,
    total: u64,
    counts: Vec<u64>,
}

impl ActivationStatistics {
    /// Counts `x: [T, width]`, row-major, as an input of the projection `name`.
    ///
    /// # Errors
    /// [`SparsityError::NotFinite`], [`SparsityError::Width`]. The first one is returned by
    /// [`Self::thresholds`] from then on, for callers in the middle of a forward pass.
    pub fn record(&self, name: &str, x: &[f32], width: usize) -> Result<(), SparsityError> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.add(name, x, width).map_err(|fault| {
            recorded.failed.get_or_insert_with(|| (name.to_owned(), fault));
            fault.error(name)
        })
    }

    /// The fraction of the recorded inputs of `name` that are zero (or below 1e-40, the first bin);
    /// `None` where there are none.
    pub fn zeros(&self, name: &str) -> Option<f64> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = recorded.projections.get(name)?;
        Some(histogram.counts[0] as f64 / histogram.total as f64)
    }

    /// The thresholds below which `sparsity` (between 0 and 1) of each projection's inputs lie.
    ///
    /// # Errors
    /// As [`Self::thresholds`].
    pub fn uniform(&self, sparsity: f64) -> Result<Thresholds, SparsityError> {
        self.thresholds(sparsity, |_| sparsity)
    }

    /// The thresholds below which `sparsity_of(name)` of the inputs of each projection lie, aimed at
    /// `sparsity` over all; every one is between 0 and 1.
    ///
    /// # Errors
    /// What [`Self::record`] failed with first; [`SparsityError::Sparsity`];
    /// [`SparsityError::NothingRecorded`].
    pub fn thresholds(
        &self,
        sparsity: f64,
        sparsity_of: impl Fn(&str) -> f64,
    ) -> Result<Thresholds, SparsityError> {
        if !(0.0..=1.0).contains(&sparsity) {
            return Err(SparsityError::Sparsity(sparsity));
        }
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, fault)) = &recorded.failed {
            return Err(fault.error(name));
        }
        if recorded.projections.is_empty() {
            return Err(SparsityError::NothingRecorded);
        }
        let quantile = |(name, histogram): (&String, &Histogram)| {
            let sparsity = sparsity_of(name);
            if !(0.0..=1.0).contains(&sparsity) {
                return Err(SparsityError::Sparsity(sparsity));
            }
            Ok((name.clone(), Threshold { magnitude: histogram.quantile(sparsity), sparsity }))
        };
        let thresholds: Result<Vec<_>, _> = recorded.projections.iter().map(quantile).collect();
        Thresholds::new(sparsity, thresholds?)
    }
}

impl Recorder for ActivationStatistics {
    fn record(&self, name: &str, x: &[f32], width: usize) -> Result<(), SparsityError> {
        Self::record(self, name, x, width)
    }
}

impl Recorded {
    fn add(&mut self, name: &str, x: &[f32], width: usize) -> Result<(), Fault> {
        let known = self.projections.get(name).map(|histogram| histogram.width);
        Fault::check(x, width, known)?;
        if x.is_empty() {
            return Ok(());
        }
        let empty = || Histogram { width, total: 0, counts: vec![0; BINS] };
        let histogram = self.projections.entry(name.to_owned()).or_insert_with(empty);
        histogram.total += x.len() as u64;
        for x in x {
            histogram.counts[(x.abs().to_bits() >> SHIFT) as usize] += 1;
        }
        Ok(())
    }
}

impl Histogram {
    /// A magnitude below which `fraction` of the inputs lie, up to the width of a bin.
    fn quantile(&self, fraction: f64) -> f32 {
        if fraction == 0.0 {
            // Not the smallest magnitude seen: the next text may have a smaller one.
            return 0.0;
        }
        let wanted = (fraction * self.total as f64).round() as u64;
        let mut below = 0;
        for (bin, &count) in self.counts.iter().enumerate() {
            if below + count > wanted {
                let (low, high) = (edge(bin), edge(bin + 1));
                let inside = (wanted - below) as f32 / count as f32;
                return low + (high - low) * inside;
            }
            below += count;
        }
        // All of them: above the largest bin that holds any.
        let last = self.counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        edge(last + 1)
    }
}

/// The smallest magnitude of a bin.
fn edge(bin: usize) -> f32 {
    f32::from_bits((bin as u32) << SHIFT).min(f32::MAX)
}
