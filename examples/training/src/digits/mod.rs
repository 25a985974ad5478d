//! Spoken digits: a small model that hears, from nothing. The program is `spoken_digits`.

pub mod data;
pub mod floor;
pub mod model;
pub mod train;
