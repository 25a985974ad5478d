//! Models from the Hugging Face hub, through its cache.

mod failure;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::{fs, thread};

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use self::failure::explain;
pub use self::settings::HuggingFaceSettings;
use crate::error::HubError;
use crate::progress::{Activity, ProgressCallback, Running};
use crate::reference::HubReference;
use crate::repository_files::{INDEX, Selection, is_inside, parts, select, shards};

/// Downloads are taken up again this often where a connection breaks.
const RETRIES: usize = 3;

/// The model in the cache, after downloading what is missing there.
pub(crate) fn fetch(
    reference: &HubReference,
    settings: &HuggingFaceSettings,
    offline: bool,
    progress: &ProgressCallback,
) -> Result<PathBuf, HubError> {
    if let Some(path) = cached(reference, settings) {
        return Ok(path);
    }
    if offline || settings.offline {
        let cache = settings.cache_dir.clone();
        return Err(HubError::Offline { reference: reference.clone(), cache });
    }
    let api = ApiBuilder::from_cache(Cache::new(settings.cache_dir.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .map_err(|error| HubError::Client {
            endpoint: settings.endpoint.clone(),
            source: Box::new(error),
        })?;
    let info = info(&api, reference, settings)?;
    let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
    let selection = select(&files, reference)?;

    // By commit, so that a push to the branch meanwhile cannot mix two versions.
    if !is_inside(&info.sha) || info.sha.contains('/') {
        return Err(HubError::OddCommit { endpoint: settings.endpoint.clone(), commit: info.sha });
    }
    let download =
        Download { repo: api.repo(at(reference, &info.sha)), reference, settings, progress };
    let path = match selection {
        Selection::Gguf(files) => {
            let paths =
                files.iter().map(|file| download.file(file)).collect::<Result<Vec<_>, _>>()?;
            paths
                .into_iter()
                .next()
                .ok_or_else(|| HubError::NoFiles { reference: reference.clone() })?
        }
        Selection::Folder(files) => download.folder(&files)?,
        Selection::Indexed(files) => {
            let folder = download.folder(&files)?;
            let shards: Vec<String> = shards(&folder.join(INDEX))?.into_iter().collect();
            download.folder(&shards)?
        }
    };
    // Last, so that the branch's name leads to a whole model or to none.
    let cache = Cache::new(settings.cache_dir.clone());
    let named = cache.repo(at(reference, &reference.revision)).create_ref(&info.sha);
    named.map_err(|source| HubError::Write {
        path: settings.cache_dir.clone(),
        variable: "HF_HOME",
        source,
    })?;
    Ok(path)
}

/// The model where the cache has all of it; opens no connection.
pub(crate) fn cached(reference: &HubReference, settings: &HuggingFaceSettings) -> Option<PathBuf> {
    let repo = at(reference, &reference.revision);
    let folder = settings.cache_dir.join(repo.folder_name());
    let named = fs::read_to_string(folder.join("refs").join(&reference.revision));
    let commit = named.map_or_else(|_| reference.revision.clone(), |sha| sha.trim().to_owned());
    let snapshot = folder.join("snapshots").join(commit);
    if let Some(file) = &reference.file {
        let files: Vec<PathBuf> = parts(file).iter().map(|part| snapshot.join(part)).collect();
        let is_whole = files.iter().all(|file| file.is_file());
        return files.into_iter().next().filter(|_| is_whole);
    }
    let entries = fs::read_dir(&snapshot).ok()?;
    // `is_file` follows the links: one whose target is gone does not count.
    let present =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| file.is_file());
    let files: Vec<String> =
        present.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect();
    match select(&files, reference).ok()? {
        Selection::Gguf(files) => files.first().map(|file| snapshot.join(file)),
        Selection::Folder(_) => Some(snapshot),
        Selection::Indexed(_) => {
            let shards = shards(&snapshot.join(INDEX)).ok()?;
            shards.iter().all(|shard| files.contains(shard)).then_some(snapshot)
        }
    }
}

fn at(reference: &HubReference, revision: &str) -> Repo {
    Repo::with_revision(reference.repository.clone(), RepoType::Model, revision.to_owned())
}

/// The repository's commit and files.
///
/// hf-hub has no timeouts, and an address that swallows packets blocks for minutes: the question is
/// asked on a thread of its own, which is left behind where no answer comes in time.
fn info(
    api: &Api,
    reference: &HubReference,
    settings: &HuggingFaceSettings,
) -> Result<RepoInfo, HubError> {
    let repo = api.repo(at(reference, &reference.revision));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(repo.info()));
    match receiver.recv_timeout(settings.timeout) {
        Ok(answer) => answer.map_err(|error| explain(error, reference, settings)),
        Err(_) => Err(HubError::NoAnswer {
            hub: reference.hub,
            endpoint: settings.endpoint.clone(),
            timeout: settings.timeout,
        }),
    }
}

struct Download<'a> {
    repo: ApiRepo,
    reference: &'a HubReference,
    settings: &'a HuggingFaceSettings,
    progress: &'a ProgressCallback,
}

impl Download<'_> {
    fn file(&self, file: &str) -> Result<PathBuf, HubError> {
        if !is_inside(file) {
            let (reference, file) = (self.reference.clone(), file.to_owned());
            return Err(HubError::OutsideFolder { reference, file });
        }
        let commit = self.commit_folder();
        if let Some(path) = commit.map(|folder| folder.join(file)).filter(|path| path.is_file()) {
            return Ok(path);
        }
        let counted = Counted { callback: self.progress, running: None, bytes: 0 };
        self.repo.download_with_progress(file, counted).map_err(|error| HubError::Download {
            file: file.to_owned(),
            cache: self.settings.cache_dir.clone(),
            source: Box::new(explain(error, self.reference, self.settings)),
        })
    }

    fn folder(&self, files: &[String]) -> Result<PathBuf, HubError> {
        let mut folder = None;
        for file in files {
            let path = self.file(file)?;
            folder = path.parent().map(Path::to_owned);
        }
        folder.ok_or_else(|| HubError::NoFiles { reference: self.reference.clone() })
    }

    /// The snapshot that files already downloaded lie in.
    fn commit_folder(&self) -> Option<PathBuf> {
        // The address ends in /resolve/COMMIT/FILE.
        let url = self.repo.url("");
        let commit = url.trim_end_matches('/').rsplit('/').next()?;
        let folder = at(self.reference, commit).folder_name();
        Some(self.settings.cache_dir.join(folder).join("snapshots").join(commit))
    }
}

/// hf-hub's reports, which are increments, as ours.
struct Counted<'a> {
    callback: &'a ProgressCallback,
    running: Option<Running<'a>>,
    bytes: u64,
}

impl hf_hub::api::Progress for Counted<'_> {
    /// Called for every attempt.
    fn init(&mut self, size: usize, file: &str) {
        let start = || self.callback.start(Activity::Downloading, file, Some(size as u64));
        self.running.get_or_insert_with(start);
        self.bytes = 0;
    }

    fn update(&mut self, size: usize) {
        self.bytes += size as u64;
        if let Some(running) = &self.running {
            running.at(self.bytes);
        }
    }

    fn finish(&mut self) {
        self.running = None;
    }
}
