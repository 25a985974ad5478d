//! `Resident` and `Lease`: a model that is loaded, and whoever uses it.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use lightglm_generation::SamplingParams;
use lightglm_text::ChatText;

use super::repository::{LoadedModel, ModelBytes};
use crate::engine::{AdapterError, EngineApi};
use crate::http::constrain::Constrain;
use crate::http::media::ServedMedia;

/// A model that is loaded.
pub(in crate::http) struct Resident {
    /// Its name.
    pub(in crate::http) name: String,
    pub(in crate::http) engine: Arc<dyn EngineApi>,
    pub(in crate::http) text: Arc<dyn ChatText>,
    pub(in crate::http) constrain: Option<Arc<dyn Constrain>>,
    pub(in crate::http) media: Option<ServedMedia>,
    /// What a request gets where it does not say.
    pub(in crate::http) sampling: SamplingParams,
    /// What it takes.
    pub(in crate::http) bytes: ModelBytes,
    /// What replies begin with that is no part of them, without tools and with them.
    openings: [String; 2],
    leases: AtomicUsize,
    /// When the last lease ended, or it came.
    used: Mutex<Instant>,
    /// The adapters that requests had loaded, the least recently used first.
    adapters: Mutex<Vec<String>>,
}

impl Resident {
    /// What `model` is but for its owner, which comes back.
    pub(super) fn new(
        name: String,
        bytes: ModelBytes,
        model: LoadedModel,
    ) -> (Self, Box<dyn std::any::Any + Send>) {
        let LoadedModel { engine, text, constrain, media, sampling, owner } = model;
        let openings = [false, true].map(|with_tools| text.reply_opening(with_tools));
        let resident = Self {
            name,
            engine,
            text,
            constrain,
            media,
            sampling,
            bytes,
            openings,
            leases: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            adapters: Mutex::default(),
        };
        (resident, owner)
    }

    /// See [`ChatText::reply_opening`].
    pub(in crate::http) fn opening(&self, with_tools: bool) -> String {
        self.openings[usize::from(with_tools)].clone()
    }

    /// What `tokens` say.
    pub(in crate::http) fn text_of(&self, tokens: &[u32]) -> String {
        let mut detokenizer = self.text.detokenizer();
        let pushed = tokens.iter().filter_map(|token| detokenizer.push(*token));
        let mut text: String = pushed.collect();
        text.extend(detokenizer.finish());
        text
    }

    pub(super) fn in_use(&self) -> bool {
        self.leases.load(Ordering::SeqCst) > 0
    }

    /// How long nobody has used it; nothing while somebody does.
    pub(in crate::http) fn idle_for(&self) -> Duration {
        match self.in_use() {
            true => Duration::ZERO,
            false => self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed(),
        }
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Takes note that a request uses the adapter, which is loaded.
    pub(super) fn use_adapter(&self, name: &str) {
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = adapters.iter().position(|adapter| adapter == name) {
            let adapter = adapters.remove(at);
            adapters.push(adapter);
        }
    }

    /// Loads the adapter for a request. Of those that requests had loaded, the least recently used leave where
    /// there are more than `most`; what they answer they finish. It may take its time.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub(super) fn load_adapter(&self, name: &str, most: usize) -> Result<(), AdapterError> {
        match self.engine.load_adapter(name) {
            Err(AdapterError::AlreadyLoaded { .. }) => return Ok(()),
            loaded => loaded?,
        }
        tracing::info!(model = %self.name, adapter = %name, "adapter loaded on first use");
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.retain(|adapter| adapter != name);
        adapters.push(name.to_owned());
        while adapters.len() > most.max(1) {
            let least = adapters.remove(0);
            // Gone already, it was taken out by hand.
            if self.engine.unload_adapter(&least).is_ok() {
                tracing::info!(model = %self.name, adapter = %least, "adapter unloaded");
            }
        }
        Ok(())
    }
}

/// Keeps a model from leaving.
pub(in crate::http) struct Lease(Arc<Resident>);

impl Lease {
    /// Of a model that is among those that are loaded, which the caller holds locked.
    pub(super) fn new(resident: Arc<Resident>) -> Self {
        resident.leases.fetch_add(1, Ordering::SeqCst);
        Self(resident)
    }

    /// The model, without keeping it.
    pub(super) fn watched(&self) -> Weak<Resident> {
        Arc::downgrade(&self.0)
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.touch();
        self.0.leases.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Deref for Lease {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.0
    }
}
