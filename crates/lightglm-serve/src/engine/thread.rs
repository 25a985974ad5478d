//! `EngineThread`: an engine at work.

use std::thread::JoinHandle;

use burn::tensor::backend::Backend;

use super::handle::EngineHandle;
use super::scheduler::Engine;
use crate::kv::ServingCache;

/// The thread that an engine runs on. Dropped, it drains the engine and waits for it.
#[derive(Debug)]
pub struct EngineThread {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    pub(super) fn spawn<B: Backend, C: ServingCache<B> + Send + 'static>(
        engine: Engine<B, C>,
    ) -> std::io::Result<Self> {
        let handle = engine.handle();
        let run = move || {
            let mut engine = engine;
            // Drained and with nothing left, the engine does not wait any longer.
            while engine.step() || engine.wait() {}
        };
        let thread = std::thread::Builder::new().name("lightglm-engine".into()).spawn(run)?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// Submits requests to the engine.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Accepts nothing new, and waits until all that was accepted has been answered.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.drain();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by then.
            let _ = thread.join();
        }
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.end();
    }
}
