//! Models from the Hugging Face hub, through its cache.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::ResolveOptions;
use super::hub_failure::{explain, unreachable};
use super::hub_settings::HubSettings;
use super::progress::byte_bar;
use super::reference::HubReference;
use super::repository_files::{INDEX, Selection, is_inside, select, shards};

/// Downloads are taken up again this often where a connection breaks.
const RETRIES: usize = 3;

/// The model in the cache, after downloading what is missing there.
pub(super) fn fetch(reference: &HubReference, options: &ResolveOptions) -> Result<PathBuf> {
    let settings = &options.hub;
    if let Some(path) = cached(reference, settings) {
        return Ok(path);
    }
    if options.offline || settings.offline {
        bail!(
            "{reference} is not in {}, and downloading is switched off (--offline or \
             HF_HUB_OFFLINE)",
            settings.cache_dir.display()
        );
    }
    let api = ApiBuilder::from_cache(Cache::new(settings.cache_dir.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .with_context(|| format!("cannot set up a connection to {}", settings.endpoint))?;
    let info = info(&api, reference, settings)?;
    let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
    let selection = select(&files, reference.file.as_deref())
        .with_context(|| format!("{reference} is not a model that can be read"))?;

    // By commit, so that a push to the branch meanwhile cannot mix two versions.
    if !is_inside(&info.sha) || info.sha.contains('/') {
        bail!("{} names the odd commit `{}`", settings.endpoint, info.sha);
    }
    let download = Download { repo: api.repo(at(reference, &info.sha)), reference, options };
    let path = match selection {
        Selection::File(file) => download.file(&file)?,
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
    named.with_context(|| format!("cannot write to {}", settings.cache_dir.display()))?;
    Ok(path)
}

/// The model where the cache has all of it; opens no connection.
pub(super) fn cached(reference: &HubReference, settings: &HubSettings) -> Option<PathBuf> {
    let repo = at(reference, &reference.revision);
    let folder = settings.cache_dir.join(repo.folder_name());
    let named = fs::read_to_string(folder.join("refs").join(&reference.revision));
    let commit = named.map_or_else(|_| reference.revision.clone(), |sha| sha.trim().to_owned());
    let snapshot = folder.join("snapshots").join(commit);
    if let Some(file) = &reference.file {
        return Some(snapshot.join(file)).filter(|file| file.is_file());
    }
    let entries = fs::read_dir(&snapshot).ok()?;
    // `is_file` follows the links: one whose target is gone does not count.
    let present =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| file.is_file());
    let files: Vec<String> =
        present.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect();
    match select(&files, None).ok()? {
        Selection::File(file) => Some(snapshot.join(file)),
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
fn info(api: &Api, reference: &HubReference, settings: &HubSettings) -> Result<RepoInfo> {
    let repo = api.repo(at(reference, &reference.revision));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(repo.info()));
    match receiver.recv_timeout(settings.timeout) {
        Ok(answer) => answer.map_err(|error| explain(&error, reference, settings)),
        Err(_) => {
            let seconds = settings.timeout.as_secs_f32();
            Err(unreachable(&format!("no answer in {seconds} s"), settings))
        }
    }
}

struct Download<'a> {
    repo: ApiRepo,
    reference: &'a HubReference,
    options: &'a ResolveOptions,
}

impl Download<'_> {
    fn file(&self, file: &str) -> Result<PathBuf> {
        if !is_inside(file) {
            bail!("{} names a file outside of its folder: `{file}`", self.reference);
        }
        let settings = &self.options.hub;
        let cache = Cache::new(settings.cache_dir.clone());
        let commit = self.commit_folder();
        if let Some(path) = commit.map(|folder| folder.join(file)).filter(|path| path.is_file()) {
            return Ok(path);
        }
        let bar = byte_bar(self.options.progress);
        let downloaded = self.repo.download_with_progress(file, bar.clone());
        bar.finish_and_clear();
        let explained = |error| {
            let error = explain(&error, self.reference, settings);
            error.context(format!("cannot download {file} into {}", cache.path().display()))
        };
        downloaded.map_err(explained)
    }

    fn folder(&self, files: &[String]) -> Result<PathBuf> {
        let mut folder = None;
        for file in files {
            let path = self.file(file)?;
            folder = path.parent().map(Path::to_owned);
        }
        folder.with_context(|| format!("{} names no files", self.reference))
    }

    /// The snapshot that files already downloaded lie in.
    fn commit_folder(&self) -> Option<PathBuf> {
        // The address ends in /resolve/COMMIT/FILE.
        let url = self.repo.url("");
        let commit = url.trim_end_matches('/').rsplit('/').next()?;
        let folder = at(self.reference, commit).folder_name();
        Some(self.options.hub.cache_dir.join(folder).join("snapshots").join(commit))
    }
}
