//! What the program `distill` is made of: its options, its stages' folders, sizes, and what it reports.

pub mod distill_args;
pub mod measured;
pub mod report;
pub mod stages;
pub mod student_sizes;
