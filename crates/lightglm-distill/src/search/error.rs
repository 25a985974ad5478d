//! `SearchError`.

/// Why nothing can be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// A block has no choices.
    #[error("block {block} has nothing to choose from")]
    NoChoice {
        /// The block.
        block: usize,
    },
    /// No choice keeps a block, or there are no blocks: nothing would be left.
    #[error("no choice keeps a block: nothing would be left")]
    NothingKept,
    /// A score is not finite.
    #[error("block {block}, choice {choice}: the score is {score}")]
    NotFinite {
        /// The block.
        block: usize,
        /// Which of its choices.
        choice: usize,
        /// The score.
        score: f64,
    },
    /// The budget is cut into no steps.
    #[error("steps: a budget has at least one step")]
    Steps,
    /// Nothing fits.
    #[error("a budget of {budget}: the least that there is costs {smallest}")]
    Budget {
        /// The budget.
        budget: u64,
        /// What the cheapest choices cost.
        smallest: u64,
    },
}
