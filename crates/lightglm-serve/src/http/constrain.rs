//! `Constrain`: the seam to whatever makes output follow a schema, a grammar or a tool's parameters.

use lightglm_generation::LogitsProcessor;
use serde_json::Value;

/// What a reply must look like.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema accepts.
    JsonSchema(Value),
    /// Text that a regular expression matches from end to end.
    Regex(String),
    /// Text of a grammar in Lark's notation.
    Lark(String),
    /// A call of a tool, in the model's format.
    ToolCall {
        /// OpenAI's tool objects that may be called: all of the request, or the one it names.
        tools: Vec<Value>,
        /// Whether several calls may follow each other.
        parallel: bool,
    },
}

/// Turns a [`Constraint`] into a processor for one reply.
pub trait Constrain: Send + Sync + 'static {
    /// Compiles a constraint; this may take a while and is called on a thread that may wait.
    ///
    /// # Errors
    /// [`ConstrainError`] where the constraint is wrong or asks too much.
    fn compile(&self, constraint: &Constraint) -> Result<Box<dyn LogitsProcessor>, ConstrainError>;
}

impl<F> Constrain for F
where
    F: Fn(&Constraint) -> Result<Box<dyn LogitsProcessor>, ConstrainError> + Send + Sync + 'static,
{
    fn compile(&self, constraint: &Constraint) -> Result<Box<dyn LogitsProcessor>, ConstrainError> {
        self(constraint)
    }
}

/// Why a constraint was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConstrainError {
    /// Where in the constraint, as a path below it (`properties.name`); `None` for the whole.
    pub path: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}
