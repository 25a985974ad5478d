//! `FoundStudent`: the result of a search, as data.

use std::path::Path;

use lightglm_distill::student::{Slice, StudentShape};
use lightglm_distill::weights_hash;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{Policy, Scheme};
use serde::{Deserialize, Serialize};

use super::super::{CutOptions, PruneError, cut, shape_of};
use crate::error::Error;
use crate::new_folder::at;
use crate::progress::ProgressSink;
use crate::quantize::{QuantizeOptions, QuantizeReport, check_folder, quantize};
use crate::whole_file::write_whole;

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenBlock {
    /// Its number in the teacher.
    pub layer: usize,
    /// A scheme, or `dropped`.
    pub choice: String,
    /// What the teacher loses where this block alone is so: nats a token.
    pub kl: f64,
    /// What it costs, in [`FoundStudent::unit`].
    pub cost: f64,
}

/// A student that was found: a [`Slice`] and a [`Policy`], what they cost and what they lose. As a file `found.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundStudent {
    /// The teacher's weights, as a hash.
    pub teacher: String,
    /// The text that decided, as a hash.
    pub text: String,
    /// What is counted: `bytes` or `milliseconds`.
    pub unit: String,
    /// What the student was allowed.
    pub budget: f64,
    /// What it takes of it.
    pub cost: f64,
    /// Bytes of all its tensors, packed.
    pub bytes: u64,
    /// Whether no other choice has a smaller sum of losses; else costs were rounded up to a step of the budget.
    pub is_exact: bool,
    /// Blocks of the teacher that are kept.
    pub layers: Vec<usize>,
    /// Feed-forward neurons of each block.
    pub intermediate_size: usize,
    /// Which they are, for each block of `layers`; empty where all are kept.
    pub ffn: Vec<Vec<usize>>,
    /// The scheme of each matrix, by the student's names; empty where all stay dense.
    pub policy: String,
    /// What the tables' scheme loses by itself, nats a token.
    pub tables_kl: f64,
    /// The sum of what each block loses alone, and of `tables_kl`. **An approximation.**
    pub predicted_kl: f64,
    /// What the student loses as a whole, on the text that decided.
    pub measured_kl: f64,
    /// What became of each block of the teacher.
    pub blocks: Vec<ChosenBlock>,
}

impl FoundStudent {
    /// Reads `file`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`PruneError::SearchFile`] for what is no such description.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let json = std::fs::read(file).map_err(|source| at(file, source))?;
        let wrong = |reason: String| PruneError::SearchFile { file: file.to_owned(), reason };
        Ok(serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?)
    }

    /// Writes `file`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, file: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).expect("strings and numbers");
        write_whole(file, json + "\n")
    }

    /// What is left of a teacher of shape `teacher`.
    pub fn slice(&self, teacher: &StudentShape) -> Slice {
        let whole = Slice { layers: self.layers.clone(), ..Slice::whole(teacher) };
        let whole = whole.for_kept_layers();
        let ffn = if self.ffn.is_empty() { whole.ffn } else { self.ffn.clone() };
        Slice { ffn, ..whole }
    }

    /// The scheme of each matrix of the student.
    ///
    /// # Errors
    /// [`Error::Policy`] for a text that is none.
    pub fn policy(&self) -> Result<Policy, Error> {
        match self.policy.is_empty() {
            true => Ok(Policy::uniform(Scheme::Dense)),
            false => Ok(self.policy.parse()?),
        }
    }

    /// Writes the student as it is cut out of the teacher of `checkpoint` to the folder `dense`, which can be taught; and
    /// from there, its matrices rounded to their schemes, to the folder `packed`.
    ///
    /// # Errors
    /// [`PruneError::OtherTeacher`]; as [`cut`] and [`quantize`](crate::quantize::quantize()).
    pub fn write(
        &self,
        checkpoint: &Checkpoint,
        dense: &Path,
        packed: &Path,
        overwrite: bool,
        progress: &ProgressSink,
    ) -> Result<QuantizeReport, Error> {
        if format!("{:016x}", weights_hash(checkpoint.weights())?) != self.teacher {
            let file = checkpoint.path().to_owned();
            return Err(PruneError::OtherTeacher { file }.into());
        }
        let policy = self.policy()?;
        check_folder(packed, checkpoint.path(), overwrite)?;
        let slice = self.slice(&shape_of(checkpoint.config()));
        let options = CutOptions { overwrite, progress: progress.clone(), ..CutOptions::default() };
        cut(checkpoint, &slice, &options, dense)?;
        let progress = progress.clone();
        let options = QuantizeOptions { overwrite, progress, ..QuantizeOptions::from(policy) };
        quantize(&Checkpoint::open(dense)?, &options, packed)
    }
}
