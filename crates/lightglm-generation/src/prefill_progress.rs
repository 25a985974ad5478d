//! `PrefillProgress`: how far a prompt is.

/// How far a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillProgress {
    /// Prompt tokens the model has run.
    pub done: usize,
    /// Prompt tokens in all.
    pub total: usize,
}
