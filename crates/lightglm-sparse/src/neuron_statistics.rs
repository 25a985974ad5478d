//! `NeuronStatistics`: which neurons of the feed-forward parts a prompt activates.
//!
//! Shapes: `T` tokens, `F` intermediate_size.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::fault::Fault;
use crate::{Recorder, SparsityError};

/// Partial sums of a row, so that the additions need not wait for each other.
const LANES: usize = 8;

/// Which neurons each feed-forward part keeps, by the name of the projection they are the input of:
/// indices in ascending order.
pub type KeptNeurons = BTreeMap<String, Vec<usize>>;

/// Sums up how much of each token's activations falls to each neuron: a [`Recorder`] before
/// `mlp.down_proj`, whose input `z: [T, F]` is the neurons' activations.
///
/// ```text
/// s[j] = || ( z[t, j] / ||z[t, :]|| ) over t ||      (a token whose z is all zero adds nothing)
/// ```
///
/// Source: Dong et al. 2024, "Prompt-prompted Adaptive Structured Pruning for Efficient LLM
/// Generation" (GRIFFIN), section 4.
#[derive(Debug, Default)]
pub struct NeuronStatistics {
    recorded: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    /// `s^2: [F]` of each projection.
    squares: BTreeMap<String, Vec<f64>>,
    /// The first projection whose input was at fault, and how.
    failed: Option<(String, Fault)>,
}

impl NeuronStatistics {
    /// `s: [F]` of the projection `name`; `None` where nothing was recorded.
    pub fn of(&self, name: &str) -> Option<Vec<f64>> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        Some(recorded.squares.get(name)?.iter().map(|square| square.sqrt()).collect())
    }

    /// The `keep` (above 0, at most 1) of each projection's neurons with the largest `s`: `keep * F` of
    /// them, rounded, at least one; the first ones where several are equal.
    ///
    /// # Errors
    /// What [`Recorder::record`] failed with first; [`SparsityError::Keep`];
    /// [`SparsityError::NothingRecorded`].
    pub fn strongest(&self, keep: f64) -> Result<KeptNeurons, SparsityError> {
        if !(keep > 0.0 && keep <= 1.0) {
            return Err(SparsityError::Keep(keep));
        }
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, fault)) = &recorded.failed {
            return Err(fault.error(name));
        }
        if recorded.squares.is_empty() {
            return Err(SparsityError::NothingRecorded);
        }
        let strongest = |(name, squares): (&String, &Vec<f64>)| {
            let count = ((keep * squares.len() as f64).round() as usize).max(1);
            let mut neurons: Vec<usize> = (0..squares.len()).collect();
            // A stable sort: equal ones stay in ascending order.
            neurons.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
            neurons.truncate(count);
            neurons.sort_unstable();
            (name.clone(), neurons)
        };
        Ok(recorded.squares.iter().map(strongest).collect())
    }
}

impl Recorder for NeuronStatistics {
    fn record(&self, name: &str, x: &[f32], width: usize) -> Result<(), SparsityError> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recorded.squares.get(name).map(Vec::len);
        if let Err(fault) = Fault::check(x, width, known) {
            recorded.failed.get_or_insert_with(|| (name.to_owned(), fault));
            return Err(fault.error(name));
        }
        if x.is_empty() {
            return Ok(());
        }
        let squares = recorded.squares.entry(name.to_owned()).or_insert_with(|| vec![0.0; width]);
        for row in x.chunks_exact(width) {
            let norm = square_norm(row);
            if norm > 0.0 {
                let share = 1.0 / norm;
                for (square, &x) in squares.iter_mut().zip(row) {
                    *square += f64::from(x) * f64::from(x) * share;
                }
            }
        }
        Ok(())
    }
}

/// `||row||^2`, in an order that does not hang on the machine.
fn square_norm(row: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    for part in row.chunks(LANES) {
        for (sum, &x) in sums.iter_mut().zip(part) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum()
}
