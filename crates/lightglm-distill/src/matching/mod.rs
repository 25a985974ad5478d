//! Matching: a student learns what a teacher computes inside, not its distributions alone.
//!
//! A loss a file: [`StateDistance`] for hidden states, [`Relations`] for what attention relates. [`Matching`] says which
//! blocks of which model are compared, [`Matched`] is a student with the projections that this takes.

mod hidden;
mod hidden_term;
mod layer_map;
mod matched;
mod positions;
mod relation_term;
mod relations;
mod settings;
mod states;
mod terms;

pub use hidden::StateDistance;
pub use layer_map::LayerMap;
pub use matched::Matched;
pub use positions::Positions;
pub use relations::{Relation, Relations};
pub use settings::{HiddenMatching, Matching, ModelShape, RelationMatching, Widths};
pub use states::{LiveStates, StateRows, TeacherStates};
