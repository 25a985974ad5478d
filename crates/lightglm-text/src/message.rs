//! One turn of a conversation, as chat templates see it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A message of a conversation.
///
/// `content` is usually a text; multimodal templates take a list of parts. Everything else a
/// template may look at (`metadata`, `name`, `tool_calls`, `tools`, ...) is in `extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `observation`, ...
    pub role: String,
    /// What was said; `None` leaves the field out, which is not the same as null to a template.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub content: Option<Value>,
    /// The other fields, in their order.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<Value>) -> Self {
        Self { role: role.into(), content: Some(content.into()), extra: Map::new() }
    }

    /// Instructions to the model.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content.into())
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content.into())
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content.into())
    }

    /// What a tool returned. A [`ChatText`](crate::ChatText) calls it what its model does.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content.into())
    }

    /// What a tool returned (GLM's name for the role that others call `tool`).
    pub fn observation(content: impl Into<String>) -> Self {
        Self::new("observation", content.into())
    }

    /// The message with one more field; GLM-4 names the called function in `metadata`.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }
}
