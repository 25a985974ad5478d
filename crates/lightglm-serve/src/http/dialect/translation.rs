//! `Translation`: a chat's request under construction.

use serde_json::{Map, Value};

use super::names::Names;
use crate::http::body::json_body::FromJson;
use crate::http::error::ApiError;
use crate::http::openai::chat::ChatBody;

/// A chat's request that a dialect's becomes, field by field.
#[derive(Default)]
pub(in crate::http) struct Translation {
    body: Map<String, Value>,
    messages: Vec<Value>,
    names: Names,
}

/// A chat's request, and what its fields are called where it came from.
pub(in crate::http) struct Translated {
    pub(in crate::http) body: ChatBody,
    pub(in crate::http) names: Names,
}

impl Translation {
    /// The chat's `field`, which the dialect calls `from`; absent where it is null.
    pub(in crate::http) fn set(
        &mut self,
        field: &str,
        from: impl Into<String>,
        value: impl Into<Value>,
    ) {
        self.names.add(field, from);
        match value.into() {
            Value::Null => {}
            value => drop(self.body.insert(field.to_owned(), value)),
        }
    }

    /// What stands at `chat` in the chat's request came from `dialect`.
    pub(in crate::http) fn name(&mut self, chat: impl Into<String>, dialect: impl Into<String>) {
        self.names.add(chat, dialect);
    }

    /// The next message, which came from `from`; what comes back is its place in the chat.
    pub(in crate::http) fn message(&mut self, from: impl Into<String>, message: Value) -> String {
        let place = format!("messages[{}]", self.messages.len());
        self.names.add(place.clone(), from);
        self.messages.push(message);
        place
    }

    /// The last message, to be added to.
    pub(in crate::http) fn last_message(&mut self) -> Option<(usize, &mut Map<String, Value>)> {
        let index = self.messages.len().checked_sub(1)?;
        Some((index, self.messages.last_mut()?.as_object_mut()?))
    }

    /// The chat's request.
    ///
    /// # Errors
    /// [`ApiError::Field`] by the dialect's name.
    pub(in crate::http) fn finish(mut self) -> Result<Translated, ApiError> {
        self.body.insert("messages".to_owned(), Value::Array(self.messages));
        match ChatBody::from_json(&Value::Object(self.body)) {
            Ok(body) => Ok(Translated { body, names: self.names }),
            Err(error) => Err(self.names.rename(error)),
        }
    }
}
