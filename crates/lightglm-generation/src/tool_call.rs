//! `ToolCall`: one call of a tool.

use serde_json::Value;

/// One call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The declared tool.
    pub name: String,
    /// The arguments: always an object.
    pub arguments: Value,
    /// The arguments as the model wrote them.
    pub raw_arguments: String,
}
