//! `Structured`: [`Constrain`] by way of [`structured`](crate::structured).

use lightglm_generation::LogitsProcessor;

use super::constrain::{Constrain, ConstrainError};
use crate::constraint::Constraint;
use crate::structured::{GrammarVocabulary, StructuredError, StructuredLimits, compile};

/// Output that follows what a request asks for, over a model's vocabulary.
pub struct Structured {
    vocabulary: GrammarVocabulary,
    limits: StructuredLimits,
}

impl Structured {
    /// For a model of `vocabulary`, within `limits`.
    pub fn new(vocabulary: GrammarVocabulary, limits: StructuredLimits) -> Self {
        Self { vocabulary, limits }
    }
}

impl Constrain for Structured {
    fn compile(
        &self,
        constraint: &Constraint,
        replies: usize,
    ) -> Result<Vec<Box<dyn LogitsProcessor>>, ConstrainError> {
        let compiled = compile(constraint, &self.vocabulary, &self.limits).map_err(refused)?;
        Ok((0..replies).map(|_| compiled.processor()).collect())
    }
}

fn refused(error: StructuredError) -> ConstrainError {
    let reason = error.to_string();
    // The request's own name of the field is known to the caller; of tools it says which.
    let named = error.field().filter(|field| !field.starts_with("tools"));
    let rest = named.and_then(|field| reason.strip_prefix(field)?.strip_prefix(": "));
    let reason = rest.map_or(reason.clone(), str::to_owned);
    ConstrainError { reason }
}
