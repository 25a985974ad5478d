//! `Progress`: what a long call tells its caller on the way.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lightglm_eval::EvalError;
use lightglm_generation::RunControl;

use crate::error::Error;

/// What is done to weights that a policy asks for.
pub(crate) const QUANTIZING: &str = "quantizing";

/// How far a long call is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A file of the model is being fetched (feature `hub`).
    Fetching {
        /// `downloading`, `checking`, `unpacking`, ...
        doing: &'static str,
        /// The file, or the package that it is in.
        file: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all, where they can be counted.
        total: Option<u64>,
    },
    /// The work on that file is over, well or badly.
    Fetched,
    /// Weights are being quantized while they are loaded.
    Quantizing {
        /// Weights done.
        done: u64,
        /// Weights in all.
        total: u64,
    },
    /// Something else is being worked on.
    Working {
        /// What: `calibrating`, `measuring`, ...
        doing: &'static str,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
}

/// Whom a long call tells how far it is; breaking off ends the call with
/// [`Error::Interrupted`](crate::Error::Interrupted).
///
/// It may be called from any thread. The default says nothing and never breaks off.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<Callback>>);

type Callback = dyn Fn(Progress) -> ControlFlow<()> + Send + Sync;

impl ProgressSink {
    /// Calls `callback`.
    pub fn new(callback: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    /// Tells where the work is.
    pub fn report(&self, progress: Progress) -> ControlFlow<()> {
        self.0.as_ref().map_or(ControlFlow::Continue(()), |callback| callback(progress))
    }

    /// Tells that `done` of `total` units of `doing` are done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the callback breaks off.
    pub(crate) fn working(&self, doing: &'static str, done: u64, total: u64) -> Result<(), Error> {
        match self.report(Progress::Working { doing, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted { doing }),
        }
    }
}

impl ProgressSink {
    /// Told weights from any thread, adds them up and reports what `progress` makes of the sum.
    pub(crate) fn weights(
        &self,
        progress: impl Fn(u64) -> Progress + Sync,
    ) -> impl Fn(u64) -> ControlFlow<()> + Sync {
        let done = AtomicU64::new(0);
        move |weights| {
            let done = done.fetch_add(weights, Ordering::Relaxed) + weights;
            self.report(progress(done))
        }
    }

    /// Calls `run` with a control that reports here and is stopped from here.
    ///
    /// # Errors
    /// That of `run`; [`Error::Interrupted`] where the run ended because it was stopped.
    pub(crate) fn controlled<T, E: Into<Error>>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&mut RunControl<'_>) -> Result<T, E>,
    ) -> Result<T, Error> {
        let stop = AtomicBool::new(false);
        let mut tell = |done: usize, total: usize| {
            let (done, total) = (done as u64, total as u64);
            if self.report(Progress::Working { doing, done, total }).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let mut control =
            RunControl { progress: Some(&mut tell), stop: Some(&stop), ..RunControl::default() };
        run(&mut control).map_err(|error| match error.into() {
            Error::Eval(EvalError::Interrupted { .. }) => Error::Interrupted { doing },
            error => error,
        })
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProgressSink(..)" } else { "ProgressSink(silent)" })
    }
}
