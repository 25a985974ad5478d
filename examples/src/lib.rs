//! What the example programs share: finding a model, and fetching it where it is not there yet;
//! choosing a device.
//!
//! **Should I use this crate?** No: it is not published. Read it as an example of its own.

pub mod device;
pub mod models;
