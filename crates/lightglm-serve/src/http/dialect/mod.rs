//! Other APIs than OpenAI's chat: their requests become that chat's, and its reply becomes theirs.
//!
//! A dialect reads its own request, builds the chat's as JSON ([`Translation`]) and has it checked by the chat's
//! own code, so that what a field means is said once. Errors come back under the dialect's names (`Names`) and
//! in its shape ([`shape_errors`]).

mod arguments;
mod error_shape;
mod names;
mod reply;
mod request;
mod translation;

pub(super) use arguments::arguments_object;
pub(super) use error_shape::{
    Dialect, ErrorMessage, anthropic_event, shape_errors, takes_any_type,
};
pub(super) use reply::{Hears, collect, tell_pieces};
pub(super) use request::{
    Refused, joined_texts, list_at, read_at, refuse, refuse_foreign, text_at,
};
pub(super) use translation::{Translated, Translation};
