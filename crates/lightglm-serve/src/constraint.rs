//! `Constraint`: what a reply has to be.

use serde_json::Value;

/// What a reply has to be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// A JSON text that this schema accepts.
    ///
    /// Properties come in the schema's order. Keywords that cannot be followed are refused, not
    /// ignored; see llguidance's list. What readers of JSON refuse is not written: an exponent has at
    /// most two digits, a number ends as soon as it can when it has 40 before or after the point (and
    /// at 200 in any case), and nesting ends at `StructuredLimits::output_depth`.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A text that this regular expression matches from its first to its last character, in the
    /// syntax of Rust's `regex` crate, without look-around and word boundaries.
    Regex(String),
    /// A text that this grammar derives from `start`, in llguidance's dialect of Lark.
    ///
    /// Control tokens cannot be named in it.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Calls of tools as GLM writes them: the name, a line break, a JSON object that the tool's
    /// schema accepts.
    ///
    /// `tool_choice: required` is every tool; a named function is that tool alone, not parallel;
    /// `auto` needs no constraint, unless the reply has a format, too.
    ToolCall {
        /// Of which tools.
        tools: Vec<ToolSpec>,
        /// Whether more than one call may be made; they stand on lines of their own.
        parallel: bool,
    },
    /// Calls as above, or a JSON text as of [`JsonSchema`](Self::JsonSchema): `tool_choice: auto` beside a format.
    ToolCallOrJson {
        /// Of which tools.
        tools: Vec<ToolSpec>,
        /// Whether more than one call may be made.
        parallel: bool,
        /// What stands before the JSON text, as the model begins an answer; calls have none.
        opening: String,
        /// The schema.
        schema: Value,
    },
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// The function's name. White space and `{}[]":,` cannot be in it.
    pub name: String,
    /// The JSON schema of the arguments: an object's. Without a `type` (`{}`, say) it is taken to
    /// be an object's.
    pub parameters: Value,
}
