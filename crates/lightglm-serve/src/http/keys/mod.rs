//! Keys: who may use which route, and how much.

pub(super) mod access;
pub(super) mod auth;
pub(super) mod keys_file;
pub(super) mod quota;
pub(super) mod tenant;
pub(super) mod tenants;
