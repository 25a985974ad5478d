//! Models from ModelScope's hub.
//!
//! `cache_dir/owner/name/revision` holds a model's files under their own names. [`MANIFEST`] in it is
//! written last and lists them: without it, the model is not whole.

mod client;
mod download;
mod settings;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use self::client::{Client, RepositoryFile};
use self::download::Download;
pub use self::settings::ModelScopeSettings;
use crate::error::HubError;
use crate::progress::ProgressCallback;
use crate::reference::HubReference;
use crate::repository_files::{INDEX, Selection, is_inside, parts, select, shards};

/// Lists the files of a model that is here as a whole; no name in a repository that is fetched
/// begins with a dot.
const MANIFEST: &str = ".files.json";

/// The model's folder or file, after downloading what is missing there.
pub(crate) fn fetch(
    reference: &HubReference,
    settings: &ModelScopeSettings,
    offline: bool,
    progress: &ProgressCallback,
) -> Result<PathBuf, HubError> {
    if let Some(path) = cached(reference, settings) {
        return Ok(path);
    }
    if offline {
        let cache = settings.cache_dir.clone();
        return Err(HubError::Offline { reference: reference.clone(), cache });
    }
    let client = Client::new(reference, settings);
    let files = client.files()?;
    let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let selection = select(&names, reference)?;

    let folder = folder(reference, settings);
    let unwritable =
        |source| HubError::Write { path: folder.clone(), variable: "LIGHTGLM_CACHE", source };
    fs::create_dir_all(&folder).map_err(unwritable)?;
    // Programs that start together: one downloads, the others wait and find the files.
    let lock = File::create(folder.join(".lock")).map_err(unwritable)?;
    lock.lock().map_err(unwritable)?;
    if let Some(path) = cached(reference, settings) {
        return Ok(path);
    }
    let download = Download { client: &client, folder: &folder, progress };
    let fetch = |names: &[String]| fetch_all(&download, reference, &files, names);
    let (path, whole) = match selection {
        Selection::Gguf(files) => {
            fetch(&files)?;
            (folder.join(&files[0]), files)
        }
        Selection::Folder(names) => {
            fetch(&names)?;
            (folder.clone(), names)
        }
        Selection::Indexed(mut names) => {
            fetch(&names)?;
            let shards: Vec<String> = shards(&folder.join(INDEX))?.into_iter().collect();
            fetch(&shards)?;
            names.extend(shards);
            (folder.clone(), names)
        }
    };
    if reference.file.is_none() {
        write_manifest(&folder, &whole).map_err(unwritable)?;
    }
    Ok(path)
}

/// The model where all of it is here; opens no connection.
fn cached(reference: &HubReference, settings: &ModelScopeSettings) -> Option<PathBuf> {
    let folder = folder(reference, settings);
    if let Some(file) = &reference.file {
        let files: Vec<PathBuf> = parts(file).iter().map(|part| folder.join(part)).collect();
        let is_whole = files.iter().all(|file| file.is_file());
        return files.into_iter().next().filter(|_| is_whole);
    }
    let manifest = fs::read_to_string(folder.join(MANIFEST)).ok()?;
    let files: Vec<String> = serde_json::from_str(&manifest).ok()?;
    if !files.iter().all(|file| is_inside(file) && folder.join(file).is_file()) {
        return None;
    }
    match select(&files, reference).ok()? {
        Selection::Gguf(files) => files.first().map(|file| folder.join(file)),
        Selection::Folder(_) | Selection::Indexed(_) => Some(folder),
    }
}

fn folder(reference: &HubReference, settings: &ModelScopeSettings) -> PathBuf {
    // One folder for a revision with slashes in it: another revision's files could be in the way.
    let revision = reference.revision.replace('/', "--");
    settings.cache_dir.join(&reference.repository).join(revision)
}

fn fetch_all(
    download: &Download<'_>,
    reference: &HubReference,
    files: &[RepositoryFile],
    names: &[String],
) -> Result<(), HubError> {
    for name in names {
        if !is_inside(name) {
            let (reference, file) = (reference.clone(), name.clone());
            return Err(HubError::OutsideFolder { reference, file });
        }
        // Only a shard can be missing: the other names were chosen among the files.
        let file = files.iter().find(|file| file.path == *name).ok_or_else(|| {
            let reference = HubReference { file: Some(name.clone()), ..reference.clone() };
            let files = files.iter().map(|file| file.path.clone()).collect();
            HubError::NoSuchFile { reference, files }
        })?;
        download.fetch(file)?;
    }
    Ok(())
}

fn write_manifest(folder: &Path, files: &[String]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, files)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(MANIFEST))?;
    Ok(())
}
