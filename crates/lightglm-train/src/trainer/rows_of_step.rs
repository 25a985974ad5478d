//! `RowsOfStep`: other rows than those that a step was to learn from.

use lightglm_core::LmError;

use super::TokenizedExample;

/// May put other rows in the place of a step's: answers that the model gives now, say.
///
/// It is asked before each step, with the step, counted from 0, the model as it is, and the rows that the step is
/// to learn from; `None` leaves them. A run resumes to the bit where what it makes is a function of these three,
/// and of what [`Trainer::with_settings`](super::Trainer::with_settings) was told.
pub type RowsOfStep<'a, M> =
    dyn Fn(u64, &M, &[&TokenizedExample]) -> Result<Option<Vec<TokenizedExample>>, LmError> + 'a;
