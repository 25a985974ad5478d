//! `Constrain`: the seam to whatever makes output follow a schema, a grammar or a tool's parameters.

use lightglm_generation::LogitsProcessor;

use crate::constraint::Constraint;

/// Turns a [`Constraint`] into processors.
pub trait Constrain: Send + Sync + 'static {
    /// Compiles a constraint for `replies` replies: as many processors. This may take a while and is
    /// called on a thread that may wait.
    ///
    /// # Errors
    /// [`ConstrainError`] where the constraint is wrong or asks too much.
    fn compile(
        &self,
        constraint: &Constraint,
        replies: usize,
    ) -> Result<Vec<Box<dyn LogitsProcessor>>, ConstrainError>;
}

impl<F> Constrain for F
where
    F: Fn(&Constraint, usize) -> Result<Vec<Box<dyn LogitsProcessor>>, ConstrainError>
        + Send
        + Sync
        + 'static,
{
    fn compile(
        &self,
        constraint: &Constraint,
        replies: usize,
    ) -> Result<Vec<Box<dyn LogitsProcessor>>, ConstrainError> {
        self(constraint, replies)
    }
}

/// Why a constraint was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConstrainError {
    /// What is wrong with it.
    pub reason: String,
}
