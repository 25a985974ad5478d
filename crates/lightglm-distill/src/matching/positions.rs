//! `Positions`: at which tokens states are compared.

use lightglm_core::LabelledSpan;

/// At which tokens of a span states are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// At those with a label, as the logits are.
    #[default]
    Labelled,
    /// At all. A span counts as much as it has labels, so that a step's loss is the mean over its spans' means.
    All,
}

impl Positions {
    /// What each token of the batch counts, all spans one after another; a span's sum is its number of labels.
    pub fn weights(self, batch: &[LabelledSpan<'_>]) -> Vec<f32> {
        let mut weights = Vec::new();
        for span in batch {
            let share = span.labels() as f32 / span.targets.len().max(1) as f32;
            weights.extend(span.targets.iter().map(|target| match self {
                Self::Labelled => f32::from(u8::from(target.is_some())),
                Self::All => share,
            }));
        }
        weights
    }
}
