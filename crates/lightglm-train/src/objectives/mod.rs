//! Objectives: what a model is trained towards. Those with a teacher are `lightglm-distill`'s.

mod cross_entropy;

pub use cross_entropy::CrossEntropy;
