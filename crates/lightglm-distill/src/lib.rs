//! Distillation: a student learns the distributions of a teacher, not its words alone.
//!
//! **Should I use this crate?** Start at `lightglm`. Use this one to train a model of your own towards
//! another: [`Distillation`] is an `Objective` of core's, so it goes wherever cross-entropy goes; a
//! [`Divergence`] says how far two distributions are apart, and a [`Teacher`] says what is wanted.
//!
//! ```
//! use lightglm_distill::{Divergence, TeacherRows};
//!
//! // Two rows over three tokens; the second teacher is not sure.
//! let teacher = TeacherRows::logits(vec![9.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3)?;
//! let kl = Divergence::ForwardKl.losses(&teacher, &[9.0, 0.0, 0.0, 3.0, 1.0, 1.0], 1.0)?;
//! assert!(kl[0].abs() < 1e-6 && kl[1] > 0.2);
//! # Ok::<(), lightglm_distill::DistillError>(())
//! ```
//!
//! A divergence and its derivative are computed a row at a time: beside the student's logits, which the graph
//! holds, and what the teacher gave, training holds one tensor of their size, the gradient.
//!
//! A teacher is asked about each batch ([`LiveTeacher`]) or once about all of a text: [`fill_cache`] writes what it says,
//! 300 bytes a token at most, and [`CachedTeacher`] reads it.
//!
//! [`Matched`] is a student that learns what a teacher computes inside as well: hidden states, through projections that
//! are learnt with it, and what attention relates. It is trained like any `TrainableLm`, towards any objective of logits.
//!
//! [`student`] has the other half: which parts of a teacher a smaller model keeps, and what a model costs. [`search`]
//! chooses for each block what becomes of it, under a budget.
//!
//! It knows no decoder, no tokenizer and no training loop.

mod cache;
mod distillation;
mod divergence;
mod error;
mod matching;
mod mixing;
mod recorded_teacher;
mod row_divergence;
pub mod search;
pub mod student;
mod tail_sample;
mod teacher;
mod teacher_rows;

pub use cache::{
    CacheHeader, CachedTeacher, FillProgress, Resumed, TeacherCache, TeacherCacheError,
    TeacherCacheWriter, fill_cache, text_hash, weights_hash,
};
pub use distillation::Distillation;
pub use divergence::Divergence;
pub use error::DistillError;
pub use matching::{
    HiddenMatching, LayerMap, LiveStates, Matched, Matching, ModelShape, Positions, Relation,
    RelationMatching, Relations, StateDistance, StateRows, TeacherStates, Widths,
};
pub use recorded_teacher::RecordedTeacher;
pub use tail_sample::TailSample;
pub use teacher::{LiveTeacher, Teacher};
pub use teacher_rows::{TeacherRows, TopRow};
