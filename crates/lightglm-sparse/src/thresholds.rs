//! `Thresholds`: what [`crate::Calibration`] finds, and the file that keeps it.

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

/// A threshold for each projection, by its name without `.weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    sparsity: f64,
    projections: BTreeMap<String, f32>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    model: ModelFingerprint,
    sparsity: f64,
    thresholds: BTreeMap<String, f32>,
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
        projections: impl IntoIterator<Item = (String, f32)>,
    ) -> Result<Self, SparsityError> {
        if !(0.0..=1.0).contains(&sparsity) {
            return Err(SparsityError::Sparsity(sparsity));
        }
        let projections: BTreeMap<String, f32> = projections.into_iter().collect();
        let bad = projections.iter().find(|(_, value)| !value.is_finite() || **value < 0.0);
        match bad {
            Some((name, &value)) => Err(SparsityError::Threshold { name: name.clone(), value }),
            None => Ok(Self { sparsity, projections }),
        }
    }

    /// The sparsity that was aimed at.
    pub fn sparsity(&self) -> f64 {
        self.sparsity
    }

    /// The threshold of `name`.
    ///
    /// # Errors
    /// [`SparsityError::Missing`].
    pub fn get(&self, name: &str) -> Result<f32, SparsityError> {
        let threshold = self.projections.get(name).copied();
        threshold.ok_or_else(|| SparsityError::Missing(name.to_owned()))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f32)> {
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
            thresholds: self.projections.clone(),
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
        Self::new(contents.sparsity, contents.thresholds)
    }
}
