//! `DistillError`.

/// Why nothing can be learnt from a teacher.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DistillError {
    /// The teacher's distributions are over other tokens.
    #[error("the teacher knows {teacher} tokens, the student {student}: they need one vocabulary")]
    Vocabulary {
        /// The teacher's vocabulary size.
        teacher: usize,
        /// The student's.
        student: usize,
    },
    /// The teacher's numbers are no rows of a vocabulary.
    #[error("the teacher's {numbers} logits are no rows of {vocab_size}")]
    Shape {
        /// How many there are.
        numbers: usize,
        /// How many a row has.
        vocab_size: usize,
    },
    /// There are as many distributions as labelled tokens, or something is wrong with the teacher.
    #[error("the teacher gave {teacher} rows for {student} labelled tokens")]
    Rows {
        /// The teacher's rows.
        teacher: usize,
        /// The student's.
        student: usize,
    },
    /// A teacher's logit is not a number, or infinite, or a row has nothing else than minus infinity.
    #[error("row {row} of the teacher: the logit of token {token} is {value}")]
    NotFinite {
        /// Which row.
        row: usize,
        /// Which token.
        token: usize,
        /// The logit.
        value: f32,
    },
    /// The likeliest tokens of a row are no distribution.
    #[error("row {row} of the teacher: {reason}")]
    TopRow {
        /// Which row.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// A cache is made of whole distributions; these are the likeliest tokens alone.
    #[error("the teacher gave its likeliest tokens, not whole distributions")]
    NotWhole,
    /// A setting is out of its range.
    #[error("{setting} is {value}: {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The likeliest tokens were cut off at another temperature than is asked for: what they are at this one is
    /// not known.
    #[error("the teacher's likeliest tokens are those of temperature {teacher}, not of {wanted}")]
    Temperature {
        /// The rows'.
        teacher: f64,
        /// The objective's.
        wanted: f64,
    },
    /// A teacher's states are no rows of their width.
    #[error("the teacher's {numbers} numbers are no states of {width}")]
    StateShape {
        /// How many there are.
        numbers: usize,
        /// How many a state has.
        width: usize,
    },
    /// There is a state for each token, or something is wrong with the teacher.
    #[error("the teacher gave {teacher} states for {student} tokens")]
    States {
        /// The teacher's states.
        teacher: usize,
        /// The student's.
        student: usize,
    },
    /// The teacher answered for more or fewer places than it was asked about.
    #[error("the teacher was asked about {asked} places and answered for {given}")]
    Taps {
        /// How many there should be.
        asked: usize,
        /// How many there are.
        given: usize,
    },
    /// States that are compared have two widths.
    #[error(
        "a state of the student has {student} numbers where {teacher} are expected: they need one width, or a projection"
    )]
    Width {
        /// The teacher's, or what a projection takes.
        teacher: usize,
        /// The student's.
        student: usize,
    },
    /// A width cannot be cut into relation heads.
    #[error("a width of {width} cannot be cut into {heads} relation heads")]
    RelationHeads {
        /// How many.
        heads: usize,
        /// Of all of them.
        width: usize,
    },
    /// A block is not there.
    #[error("the {model} has {blocks} blocks, there is no block {layer}")]
    Layer {
        /// `student` or `teacher`.
        model: &'static str,
        /// The block.
        layer: usize,
        /// How many there are.
        blocks: usize,
    },
    /// A recorded teacher was not asked about a row.
    #[error("row {row} of the batch: the teacher was not asked about it")]
    Unrecorded {
        /// Its place in the batch.
        row: usize,
    },
}
