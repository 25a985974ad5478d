//! `ScoreError`: why predictions could not be scored; `Missing`: what an unanswered question is.

/// What becomes of a question that has no prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// The run ends with [`ScoreError::MissingPredictions`].
    #[default]
    Refuse,
    /// What the task's official scorer does: SQuAD's leaves it out of the divisor, the others count
    /// it as wrong.
    AsOfficial,
}

/// Why predictions could not be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// Nothing was asked, or nothing that was asked has a prediction.
    #[error("{origin}: no question to score")]
    NoQuestions {
        /// Where the predictions came from.
        origin: String,
    },
    /// Questions without a prediction.
    #[error("{origin}: {missing} of {total} questions have no prediction, the first is `{first}`")]
    MissingPredictions {
        /// Where the predictions came from.
        origin: String,
        /// How many.
        missing: usize,
        /// Questions asked.
        total: usize,
        /// Id of the first.
        first: String,
    },
    /// A question without a no-answer probability.
    #[error("{origin}: question `{id}` has no no-answer probability")]
    MissingNaProb {
        /// Where the probabilities came from.
        origin: String,
        /// The question.
        id: String,
    },
    /// A prediction that is no label.
    #[error("{origin}: question `{id}`: `{label}` is none of the {labels} labels")]
    UnknownLabel {
        /// Where the predictions came from.
        origin: String,
        /// The question.
        id: String,
        /// What was predicted.
        label: String,
        /// How many labels there are.
        labels: usize,
    },
}
