//! The files as a folder, for programs that open folders.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::{FILES, NAME};

/// Why the model's files could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the embedded model could not be unpacked to {}: {source}", .folder.display())]
pub struct UnpackError {
    /// The folder that was to hold them.
    pub folder: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// The folder of the model's files below `cache`, written where it is not there or differs. Another
/// version of this crate has another folder; programs that start together end up with the same one.
///
/// # Errors
/// [`UnpackError`] where the folder cannot be written.
pub fn unpack(cache: &Path) -> Result<PathBuf, UnpackError> {
    let folder = cache.join(format!("{NAME}-{:016x}", fingerprint()));
    if is_whole(&folder) {
        return Ok(folder);
    }
    let failed = |source| UnpackError { folder: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    for (name, bytes) in FILES {
        let part = folder.join(format!("{name}.{}.part", std::process::id()));
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, folder.join(name)));
        if let Err(source) = written {
            let _ = fs::remove_file(&part);
            return Err(failed(source));
        }
    }
    Ok(folder)
}

/// Whether every file is there with the bytes that it should have.
fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|(name, bytes)| fs::read(folder.join(name)).is_ok_and(|found| found == *bytes))
}

/// Of all the bytes. The hasher of the standard library may change with the compiler: then the folder has another name,
/// and nothing else happens.
fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    FILES.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_written_anew() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        assert!(is_whole(&folder));
        let weights = folder.join("model.safetensors");
        fs::write(&weights, "half").unwrap();
        assert_eq!(unpack(cache.path()).unwrap(), folder);
        assert!(is_whole(&folder));
        // Nothing unfinished stays behind.
        assert_eq!(fs::read_dir(&folder).unwrap().count(), FILES.len());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = unpack(&file).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
