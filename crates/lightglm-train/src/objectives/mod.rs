//! Objectives: what a model is trained towards.

mod cross_entropy;
mod teacher;

pub use cross_entropy::CrossEntropy;
pub use teacher::TowardsTeacher;
