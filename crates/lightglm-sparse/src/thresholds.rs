//! `Thresholds`: what [`crate::ActivationStatistics`] finds, and the file that keeps it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use lightglm_core::temporary_in;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::SparsityError;

/// Version of the file's format.
const VERSION: u32 = 1;

/// Which model thresholds belong to: a digest of its projections' names and shapes and of some of its
/// weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelFingerprint(String);

impl ModelFingerprint {
    /// Of projections `(name, [N, K])` and any bytes that tell this model from one of the same shape,
    /// such as a norm's weights.
    pub fn new<'a>(
        projections: impl IntoIterator<Item = (&'a str, [usize; 2])>,
        weights: &[u8],
    ) -> Self {
        let mut digest = Sha256::new();
        for (name, [n, k]) in projections {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update((n as u64).to_le_bytes());
            digest.update((k as u64).to_le_bytes());
        }
        digest.update(weights);
        let hex = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(hex)
    }
}

impl std::fmt::Display for ModelFingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is active of a projection's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Entries of a smaller magnitude are left out; finite, 0 leaves out nothing.
    #[serde(rename = "threshold")]
    pub magnitude: f32,
    /// The fraction of the calibration text's inputs below it, between 0 and 1.
    pub sparsity: f64,
}

/// A threshold for each projection, by its name without `.weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    sparsity: f64,
    projections: BTreeMap<String, Threshold>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    model: ModelFingerprint,
    sparsity: f64,
    projections: BTreeMap<String, Threshold>,
}

/// What the file calls itself.
const FORMAT: &str = "lightglm-sparsity";

/// Read before everything else, so that another version is called by its name.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

impl Thresholds {
    /// For a sparsity that was aimed at (between 0 and 1), and a threshold for each name.
    ///
    /// # Errors
    /// [`SparsityError::Sparsity`], [`SparsityError::Threshold`].
    pub fn new(
        sparsity: f64,
        projections: impl IntoIterator<Item = (String, Threshold)>,
    ) -> Result<Self, SparsityError> {
        if !(0.0..=1.0).contains(&sparsity) {
            return Err(SparsityError::Sparsity(sparsity));
        }
        let projections: BTreeMap<String, Threshold> = projections.into_iter().collect();
        for (name, &Threshold { magnitude, sparsity }) in &projections {
            if !magnitude.is_finite() || magnitude < 0.0 {
                return Err(SparsityError::Threshold { name: name.clone(), value: magnitude });
            }
            if !(0.0..=1.0).contains(&sparsity) {
                return Err(SparsityError::Sparsity(sparsity));
            }
        }
        Ok(Self { sparsity, projections })
    }

    /// The sparsity that was aimed at.
    pub fn sparsity(&self) -> f64 {
        self.sparsity
    }

    /// The magnitude below which inputs of `name` are left out.
    ///
    /// # Errors
    /// [`SparsityError::Missing`].
    pub fn get(&self, name: &str) -> Result<f32, SparsityError> {
        let threshold = self.projections.get(name).map(|threshold| threshold.magnitude);
        threshold.ok_or_else(|| SparsityError::Missing(name.to_owned()))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Threshold)> {
        self.projections.iter().map(|(name, &threshold)| (name.as_str(), threshold))
    }

    /// Writes the thresholds of `model` to `file`, whole or not at all.
    ///
    /// # Errors
    /// [`SparsityError::Io`]; a file that was there is then as it was.
    pub fn save(&self, file: &Path, model: &ModelFingerprint) -> Result<(), SparsityError> {
        let contents = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            model: model.clone(),
            sparsity: self.sparsity,
            projections: self.projections.clone(),
        };
        let write = || -> std::io::Result<()> {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let mut temporary = temporary_in(folder.unwrap_or(Path::new(".")))?;
            serde_json::to_writer_pretty(&mut temporary, &contents)?;
            temporary.write_all(b"\n")?;
            temporary.as_file().sync_all()?;
            temporary.persist(file)?;
            Ok(())
        };
        write().map_err(|source| SparsityError::Io { file: file.to_owned(), source })
    }

    /// Reads `file`, which must be of `model`.
    ///
    /// # Errors
    /// [`SparsityError`]: the file is not there, not one of thresholds, of another version or of
    /// another model, or a threshold is not a finite number from 0 on.
    pub fn load(file: &Path, model: &ModelFingerprint) -> Result<Self, SparsityError> {
        let io = |source| SparsityError::Io { file: file.to_owned(), source };
        let json = |source| SparsityError::Json { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(io)?;
        let Header { version } = serde_json::from_str(&text).map_err(json)?;
        if version != VERSION {
            let file = file.to_owned();
            return Err(SparsityError::Version { file, found: version, known: VERSION });
        }
        let contents: File = serde_json::from_str(&text).map_err(json)?;
        if contents.format != FORMAT {
            let reason = format!("`format` is {:?}, not {FORMAT:?}", contents.format);
            return Err(json(serde::de::Error::custom(reason)));
        }
        if contents.model != *model {
            return Err(SparsityError::OtherModel {
                file: file.to_owned(),
                expected: model.to_string(),
                found: contents.model.to_string(),
            });
        }
        Self::new(contents.sparsity, contents.projections)
    }
}
