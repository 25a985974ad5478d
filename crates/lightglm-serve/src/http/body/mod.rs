//! A request's body: read within limits, unpacked, and parsed with errors that name the field.

pub(super) mod body_budget;
pub(super) mod content_encoding;
pub(super) mod json_body;
pub(super) mod json_shape;
pub(super) mod surrogates;
pub(super) mod unread_body;
