//! `ActivationThresholds`: thresholds of either kind, and the file that keeps them.

use std::path::Path;
use std::sync::Arc;

use lightglm_kernels::LmBackend;
use lightglm_sparse::{SparsityError, Thresholds};

use super::any_order::SHORTEST_RUN;
use super::error::SparseModelError;
use super::{Counted, cats, thresholds};
use crate::error::Error;
use crate::model::{LanguageModel, QuantizedGlm};

/// Thresholds, and what of a model they stand at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ActivationThresholds {
    /// Before every projection of the blocks (TEAL).
    Projections(Thresholds),
    /// Behind the gates of the feed-forward parts (CATS).
    Gates(Thresholds),
}

impl ActivationThresholds {
    /// Reads `file`, which must be of `model`; whether it is of projections or of gates its names say.
    ///
    /// # Errors
    /// [`Error::Sparse`] and [`Error::SparseModel`]: the file is not there, malformed, of another model
    /// or version; has a threshold that is no finite number from 0 on, or none for some projection or
    /// gate; names both kinds, or what the model does not have.
    pub fn load<B: LmBackend>(file: &Path, model: &QuantizedGlm<B>) -> Result<Self, Error> {
        let fingerprint = thresholds::fingerprint(model);
        let thresholds = Thresholds::load(file, &fingerprint).map_err(|error| match error {
            error @ (SparsityError::Threshold { .. } | SparsityError::Sparsity(_)) => {
                in_file(file, error)
            }
            error => error.into(),
        })?;
        let mut projections = Vec::new();
        model.for_each_linear(|name, _| projections.push(name.to_owned()));
        let gates: Vec<String> = (0..model.layers.len()).map(cats::gate).collect();
        let (mut projection, mut gate) = (None, None);
        for (name, _) in thresholds.iter() {
            if projections.iter().any(|known| known == name) {
                projection.get_or_insert(name);
            } else if gates.iter().any(|known| known == name) {
                gate.get_or_insert(name);
            } else {
                let (file, name) = (file.to_owned(), name.to_owned());
                return Err(SparseModelError::Unknown { file, name }.into());
            }
        }
        if let (Some(projection), Some(gate)) = (projection, gate) {
            let (projection, gate) = (projection.to_owned(), gate.to_owned());
            return Err(SparseModelError::Mixed { file: file.to_owned(), projection, gate }.into());
        }
        let wanted = match gate {
            Some(_) => gates,
            None => thresholds::projection_names(model),
        };
        for name in &wanted {
            thresholds.get(name).map_err(|error| in_file(file, error))?;
        }
        Ok(if gate.is_some() { Self::Gates(thresholds) } else { Self::Projections(thresholds) })
    }

    /// Writes the thresholds of `model` to `file`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Sparse`] where the file cannot be written; one that was there is then as it was.
    pub fn save<B: LmBackend>(&self, file: &Path, model: &QuantizedGlm<B>) -> Result<(), Error> {
        Ok(self.thresholds().save(file, &thresholds::fingerprint(model))?)
    }

    /// The thresholds by name.
    pub fn thresholds(&self) -> &Thresholds {
        match self {
            Self::Projections(thresholds) | Self::Gates(thresholds) => thresholds,
        }
    }

    /// The sparsity that was aimed at: of the inputs of projections, or of the gates.
    pub fn sparsity(&self) -> f64 {
        self.thresholds().sparsity()
    }

    /// `model` without what these thresholds leave out. Matrices whose channels are long enough
    /// ([`SHORTEST_RUN`]) are brought into the order in which it is not read.
    ///
    /// # Errors
    /// [`Error::Sparse`] where a projection or a gate has no threshold.
    pub fn apply<B: LmBackend>(
        &self,
        model: QuantizedGlm<B>,
    ) -> Result<Arc<dyn LanguageModel<B>>, Error> {
        Ok(match self {
            Self::Projections(found) => Arc::new(thresholds::masked(model, found, SHORTEST_RUN)?),
            Self::Gates(found) => Arc::new(cats::gated_by_channels(model, found, SHORTEST_RUN)?),
        })
    }

    /// Counts what they leave out of `model` over `windows` of tokens, with all masks at work.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and where there are no tokens.
    pub fn count<B: LmBackend>(
        &self,
        model: &QuantizedGlm<B>,
        windows: &[&[u32]],
    ) -> Result<Counted, Error> {
        match self {
            Self::Projections(found) => thresholds::count(model, found, windows, SHORTEST_RUN),
            Self::Gates(found) => cats::count(model, found, windows, SHORTEST_RUN),
        }
    }
}

fn in_file(file: &Path, source: SparsityError) -> Error {
    SparseModelError::File { file: file.to_owned(), source }.into()
}
