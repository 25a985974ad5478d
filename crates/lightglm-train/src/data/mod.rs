//! Conversations to learn from.
