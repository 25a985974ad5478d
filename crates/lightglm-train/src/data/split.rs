//! `split`, `take_per_label`, `take_evenly`: parts of a set of examples, chosen by a seed.
//!
//! Every part keeps the order of the whole.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::random_order::{Purpose, Seeded};

/// How much is set aside for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValidationSize {
    /// A share of the examples, from 0 up to but not including 1; rounded, but at least one example
    /// where the share is above 0.
    Share(f64),
    /// So many examples.
    Count(usize),
}

impl fmt::Display for ValidationSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share:?}"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl FromStr for ValidationSize {
    type Err = SplitError;

    /// A whole number is a count, one with a point a share: `200`, `0.1`.
    fn from_str(text: &str) -> Result<Self, SplitError> {
        let unreadable = || SplitError::Unreadable { text: text.into() };
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        let share: f64 = text.parse().map_err(|_| unreadable())?;
        checked_share(share)?;
        Ok(Self::Share(share))
    }
}

/// Why examples could not be split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// Neither a count nor a share.
    #[error("`{text}` is neither a number of examples nor a share such as 0.1")]
    Unreadable {
        /// What was given.
        text: String,
    },
    /// A share that is not in `[0, 1)`.
    #[error("a share for validation is at least 0 and below 1, not {share}")]
    Share {
        /// The share.
        share: f64,
    },
    /// Nothing would be left to train on.
    #[error("{validation} of {examples} examples for validation leave none to train on")]
    NothingLeft {
        /// Examples asked for.
        validation: usize,
        /// Examples there are.
        examples: usize,
    },
}

/// Examples to train on, and those set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<T> {
    /// To train on.
    pub train: Vec<T>,
    /// To validate with.
    pub validation: Vec<T>,
}

/// Sets `size` of the examples aside, chosen by `seed`.
///
/// # Errors
/// [`SplitError`]: an impossible share, or nothing left to train on.
pub fn split<T>(examples: Vec<T>, size: ValidationSize, seed: u64) -> Result<Split<T>, SplitError> {
    let total = examples.len();
    let count = match size {
        ValidationSize::Count(count) => count,
        ValidationSize::Share(share) => {
            checked_share(share)?;
            let rounded = (total as f64 * share).round() as usize;
            rounded.max(usize::from(share > 0.0))
        }
    };
    if count > 0 && count >= total {
        return Err(SplitError::NothingLeft { validation: count, examples: total });
    }
    let mut order: Vec<usize> = (0..total).collect();
    Seeded::new(seed, Purpose::Split).shuffle(&mut order);
    let (validation, train) = partition(examples, &order[..count]);
    Ok(Split { train, validation })
}

fn checked_share(share: f64) -> Result<(), SplitError> {
    if (0.0..1.0).contains(&share) { Ok(()) } else { Err(SplitError::Share { share }) }
}

/// At most `count` examples of each label, chosen by `seed`.
pub fn take_per_label<T, K: Ord>(
    examples: Vec<T>,
    count: usize,
    seed: u64,
    label: impl Fn(&T) -> K,
) -> Vec<T> {
    let groups = shuffled_groups(&examples, seed, label);
    let chosen: Vec<usize> =
        groups.iter().flat_map(|group| &group[..count.min(group.len())]).copied().collect();
    partition(examples, &chosen).0
}

/// At most `count` examples in all, chosen by `seed`, with as many of each label as the others: no
/// label has more than one example above another that has any left.
pub fn take_evenly<T, K: Ord>(
    examples: Vec<T>,
    count: usize,
    seed: u64,
    label: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut groups = shuffled_groups(&examples, seed, label);
    // Who gets the remainder must not depend on the alphabet.
    Seeded::new(seed, Purpose::Draw).shuffle(&mut groups);
    let mut chosen = Vec::with_capacity(count.min(examples.len()));
    for round in 0.. {
        let before = chosen.len();
        let next = groups.iter().filter_map(|group| group.get(round)).copied();
        chosen.extend(next.take(count - before));
        if chosen.len() == before || chosen.len() == count {
            break;
        }
    }
    partition(examples, &chosen).0
}

/// The indices of each label's examples, labels in order, indices shuffled.
fn shuffled_groups<T, K: Ord>(
    examples: &[T],
    seed: u64,
    label: impl Fn(&T) -> K,
) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        groups.entry(label(example)).or_default().push(index);
    }
    let mut random = Seeded::new(seed, Purpose::Draw);
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| random.shuffle(group));
    groups
}

/// The examples with these indices, and the others.
fn partition<T>(examples: Vec<T>, chosen: &[usize]) -> (Vec<T>, Vec<T>) {
    let mut is_chosen = vec![false; examples.len()];
    chosen.iter().for_each(|index| is_chosen[*index] = true);
    let (mut inside, mut outside) = (Vec::with_capacity(chosen.len()), Vec::new());
    for (example, is_chosen) in examples.into_iter().zip(is_chosen) {
        if is_chosen { &mut inside } else { &mut outside }.push(example);
    }
    (inside, outside)
}
