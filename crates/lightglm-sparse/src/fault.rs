//! `Fault`: what is wrong with recorded activations.

use crate::SparsityError;

/// What is wrong with the activations of a call, before it is known whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Width { len: usize, width: usize },
    NotFinite { row: usize, channel: usize, value: f32 },
}

impl Fault {
    /// Checks that `x` is rows of `width` finite numbers, and `width` what was `known` before.
    pub(crate) fn check(x: &[f32], width: usize, known: Option<usize>) -> Result<(), Self> {
        let (len, known) = (x.len(), known.unwrap_or(width));
        if width == 0 || width != known || !len.is_multiple_of(width) {
            return Err(Self::Width { len, width: known });
        }
        match x.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Self::NotFinite { row: at / width, channel: at % width, value: x[at] }),
            None => Ok(()),
        }
    }

    /// The error about the projection `name`.
    pub(crate) fn error(self, name: &str) -> SparsityError {
        let name = name.to_owned();
        match self {
            Self::Width { len, width } => SparsityError::Width { name, len, width },
            Self::NotFinite { row, channel, value } => {
                SparsityError::NotFinite { name, row, channel, value }
            }
        }
    }
}
