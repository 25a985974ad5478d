//! Constraints that hold nothing back.

use std::sync::{Arc, Mutex};

use lightglm_generation::{LogitsProcessor, ProcessorError, TokenHistory};
use lightglm_serve::http::{Constrain, ConstrainError, Constraint};

struct Anything;

impl LogitsProcessor for Anything {
    fn process(&mut self, _: TokenHistory<'_>, _: &mut [f32]) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// So many processors that let everything pass.
pub(crate) fn processors(replies: usize) -> Vec<Box<dyn LogitsProcessor>> {
    (0..replies).map(|_| Box::new(Anything) as Box<dyn LogitsProcessor>).collect()
}

/// Takes every constraint, and remembers it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled(Arc<Mutex<Vec<Constraint>>>);

impl Compiled {
    pub(crate) fn all(&self) -> Vec<Constraint> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn pop(&self) -> Option<Constraint> {
        self.0.lock().unwrap().pop()
    }

    /// What a server is told.
    pub(crate) fn constrain(&self) -> Arc<dyn Constrain> {
        let log = self.0.clone();
        Arc::new(move |constraint: &Constraint, replies: usize| {
            log.lock().unwrap().push(constraint.clone());
            Ok::<_, ConstrainError>(processors(replies))
        })
    }
}
