//! Requests to a server from many clients at once, and what they felt.

mod client;
mod plot;
mod prompts;
mod schedule;
mod summary;

pub use client::{Client, Outcome, Reply};
pub use plot::svg;
pub use prompts::Prompts;
pub use schedule::{Arrivals, run};
pub use summary::{Percentiles, Summary};
