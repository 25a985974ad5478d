//! What surrounds a request until its line in the log: its id, its tokens, its end.

pub(super) mod around;
pub(super) mod meter;
pub(super) mod open_request;
pub(super) mod request_record;
