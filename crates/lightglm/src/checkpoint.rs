//! Opening checkpoints by path or, with the feature `hub`, by name.

use std::path::Path;

pub use lightglm_model::checkpoint::Checkpoint;

use crate::error::Error;
use crate::model::Weights;
use crate::progress::ProgressSink;
pub use crate::summary::{QuantizedSummary, Summary};

/// Opens a folder in Hugging Face layout or a `.gguf` file; with the feature `hub` also a hub id or
/// `DEFAULT_MODEL`, which is fetched where it is not there yet, as the environment says
/// ([`ResolveOptions::from_env`](lightglm_hub::ResolveOptions::from_env)). Headers are read, weights
/// are not.
///
/// # Errors
/// Where there is no such model, it cannot be fetched, or its configuration or headers are malformed.
#[cfg(feature = "hub")]
pub fn open(model: impl AsRef<Path>, progress: &ProgressSink) -> Result<Checkpoint, Error> {
    use lightglm_hub::{ResolveOptions, resolve};

    let model = model.as_ref();
    // What is there is opened as it is; anything else may be a name.
    let path = match model.to_str().filter(|_| !model.exists()) {
        Some(name) => {
            let options = ResolveOptions::from_env()?;
            resolve(name, &ResolveOptions { progress: fetching(progress), ..options })?
        }
        None => model.to_owned(),
    };
    Ok(Checkpoint::open(&path)?)
}

/// Opens a folder in Hugging Face layout or a `.gguf` file. Headers are read, weights are not.
///
/// # Errors
/// Where there is no such model, or its configuration or headers are malformed.
#[cfg(not(feature = "hub"))]
pub fn open(model: impl AsRef<Path>, _: &ProgressSink) -> Result<Checkpoint, Error> {
    Ok(Checkpoint::open(model.as_ref())?)
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
