//! Checkpoints: what a run needs to go on as if it had not been interrupted.
//!
//! A checkpoint is a folder `step-00000042` with the trainable parameters, the optimizer's moments and
//! where the run stands. It is written under another name and renamed when every byte is on the disk,
//! so a folder of that name is always whole.

mod error;
mod folder;
mod state;

pub use error::TrainCheckpointError;
pub use folder::CheckpointFolder;
pub use state::{FORMAT_VERSION, RunState};
