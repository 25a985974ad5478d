//! `LayerMap`: which block of a student learns from which block of a teacher.

use crate::error::DistillError;

/// Which block of a student learns from which block of a teacher. Blocks are counted from 1; 0 is the embedded tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LayerMap {
    /// The last from the last.
    #[default]
    Last,
    /// Each of the student's `S` from one of the teacher's `T`: block `m` from block `m T / S`, rounded, so the last
    /// from the last.
    ///
    /// Source: Jiao et al. 2020, "TinyBERT", section 3.2 (the uniform strategy).
    Uniform,
    /// These pairs of a student's block and a teacher's.
    Given(Vec<(usize, usize)>),
}

impl LayerMap {
    /// The pairs for models of so many blocks.
    ///
    /// # Errors
    /// [`DistillError::Layer`] for a block that is not there, [`DistillError::Setting`] where there is no pair.
    pub fn pairs(
        &self,
        student_blocks: usize,
        teacher_blocks: usize,
    ) -> Result<Vec<(usize, usize)>, DistillError> {
        let (s, t) = (student_blocks, teacher_blocks);
        let pairs = match self {
            Self::Last => vec![(s, t)],
            Self::Uniform => (1..=s).map(|m| (m, (2 * m * t + s) / (2 * s))).collect(),
            Self::Given(pairs) => pairs.clone(),
        };
        for &(of_student, of_teacher) in &pairs {
            for (model, layer, blocks) in [("student", of_student, s), ("teacher", of_teacher, t)] {
                if layer > blocks {
                    return Err(DistillError::Layer { model, layer, blocks });
                }
            }
        }
        match pairs.is_empty() {
            true => Err(DistillError::Setting {
                setting: "layers",
                value: 0.0,
                expected: "there must be a pair of blocks",
            }),
            false => Ok(pairs),
        }
    }
}
