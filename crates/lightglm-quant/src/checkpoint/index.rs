//! `PackedIndex`: the metadata of a quantized checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use lightglm_core::QUANTIZATION_KEY;
use lightglm_kernels::PANEL_ROWS;
use serde::{Deserialize, Serialize};

use super::PackedFileError;
use crate::{Policy, Scheme};

/// The name of the layout, of [`lightglm_kernels::PackedMatrix`].
pub const PACKED_FORMAT: &str = "panels-32";

/// Its version. A change that older readers would misread gets a new one.
pub const PACKED_VERSION: u64 = 1;

/// Columns that a step may fill up.
const LONGEST_STEP: usize = 8;

/// One matrix of a quantized checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedMatrixEntry {
    /// What it became.
    pub scheme: Scheme,
    /// `[out_features, in_features]`.
    pub shape: [usize; 2],
}

/// What a quantized checkpoint says about itself, as JSON in its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedIndex {
    format: String,
    version: u64,
    /// For people; what holds is said per matrix.
    policy: String,
    matrices: BTreeMap<String, PackedMatrixEntry>,
}

/// What every version has.
#[derive(Deserialize)]
struct Preamble {
    format: serde_json::Value,
    version: serde_json::Value,
}

impl PackedIndex {
    /// Without matrices yet.
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            format: PACKED_FORMAT.to_owned(),
            version: PACKED_VERSION,
            policy: policy.to_string(),
            matrices: BTreeMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, name: String, entry: PackedMatrixEntry) {
        self.matrices.insert(name, entry);
    }

    /// Key and value of the metadata.
    pub(crate) fn to_metadata(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("strings and numbers are JSON");
        (QUANTIZATION_KEY.to_owned(), json)
    }

    /// Reads the metadata `json` of the checkpoint that errors call `file`.
    ///
    /// # Errors
    /// [`PackedFileError::Index`], [`PackedFileError::Version`]; [`PackedFileError::Matrix`] and
    /// [`PackedFileError::Pack`] for a shape that no file could hold, or that its scheme does not fit.
    pub fn from_json(json: &str, file: &Path) -> Result<Self, PackedFileError> {
        let malformed = |error: serde_json::Error| PackedFileError::Index {
            file: file.to_owned(),
            reason: error.to_string(),
        };
        // The version first: a later one may have other fields.
        let preamble: Preamble = serde_json::from_str(json).map_err(malformed)?;
        if preamble.format != PACKED_FORMAT || preamble.version != PACKED_VERSION {
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            let (format, version) = (text(preamble.format), text(preamble.version));
            return Err(PackedFileError::Version { file: file.to_owned(), format, version });
        }
        let index: Self = serde_json::from_str(json).map_err(malformed)?;
        for (name, entry) in &index.matrices {
            entry.check(name, file)?;
        }
        Ok(index)
    }

    /// The policy that the checkpoint was made with, as text.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The matrices by name.
    pub fn matrices(&self) -> impl Iterator<Item = (&str, &PackedMatrixEntry)> {
        self.matrices.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The matrix `name`.
    pub fn entry(&self, name: &str) -> Option<&PackedMatrixEntry> {
        self.matrices.get(name)
    }
}

impl PackedMatrixEntry {
    /// Checks that sizes can be counted, and that the scheme fits.
    fn check(&self, name: &str, file: &Path) -> Result<(), PackedFileError> {
        let [n, k] = self.shape;
        let (file, name) = (file.to_owned(), name.to_owned());
        // Every size of a packed matrix is below this: rows and columns filled up, times the bytes
        // of a scale and a code.
        let filled =
            n.checked_next_multiple_of(PANEL_ROWS).zip(k.checked_next_multiple_of(LONGEST_STEP));
        let most = filled.and_then(|(n, k)| n.checked_mul(k)?.checked_mul(16));
        if n == 0 || k == 0 || most.is_none_or(|most| most > isize::MAX as usize) {
            let reason = format!("a matrix of shape {:?} cannot be", self.shape);
            return Err(PackedFileError::Matrix { file, name, reason });
        }
        match self.scheme {
            Scheme::Dense => Ok(()),
            Scheme::Quantized(scheme) => match scheme.format(k) {
                Ok(_) => Ok(()),
                Err(source) => Err(PackedFileError::Pack { file, name, source }),
            },
        }
    }
}
