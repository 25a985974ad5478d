//! OpenAI's routes.

pub(super) mod chat;
pub(super) mod chat_reply;
pub(super) mod completion_reply;
pub(super) mod completions;
pub(super) mod embeddings;
pub(super) mod logprobs;
pub(super) mod loosen;
pub(super) mod messages;
pub(super) mod models;
pub(super) mod response_format;
pub(super) mod sampling;
pub(super) mod thinking;
pub(super) mod tools;
pub(super) mod unmet;
pub(super) mod usage;
pub(super) mod whole;
