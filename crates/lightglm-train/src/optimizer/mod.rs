//! AdamW, Muon, schedules of the learning rate, clipping by the global norm.

mod adamw;
mod clip;
mod muon;
mod schedule;

pub use adamw::{AdamW, AdamWConfig, Moments};
pub use clip::{clip_factor, global_norm};
pub use muon::{MuonConfig, orthogonalized};
pub use schedule::{Schedule, ScheduleShape};
