//! What the programs that train share: their options, the live line and the curves.
//!
//! **Should I use this crate?** No: it is not published. A package of its own, so that who only wants to
//! chat does not compile training.

pub mod digits;
pub mod distill;
pub mod learnt_rows;
pub mod loss_plot;
pub mod plan_table;
pub mod row_args;
pub mod tiny;
pub mod training_args;
pub mod training_watch;
