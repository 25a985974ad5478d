//! Replies that follow a schema, a regular expression or a grammar (feature `structured`).

use std::sync::{Arc, OnceLock};

use lightglm_generation::LogitsProcessor;
use lightglm_serve::structured::{Constraint, GrammarVocabulary, StructuredLimits, compile};
use lightglm_text::ChatText;

use super::Model;
use crate::error::Error;

/// The vocabulary as grammars need it: made when the first constraint is compiled.
pub(crate) type Vocabulary = Arc<OnceLock<GrammarVocabulary>>;

impl Model {
    /// What keeps one reply within `constraint`.
    pub(crate) fn constrain(
        &self,
        constraint: &Constraint,
    ) -> Result<Box<dyn LogitsProcessor>, Error> {
        let vocabulary = match self.inner.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let text: &dyn ChatText = self.text();
                let made = GrammarVocabulary::new(text, self.config().vocab_size)?;
                self.inner.vocabulary.get_or_init(|| made)
            }
        };
        Ok(compile(constraint, vocabulary, &StructuredLimits::default())?.processor())
    }
}
