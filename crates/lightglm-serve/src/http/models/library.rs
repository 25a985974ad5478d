//! `Library`: which of a repository's models are loaded, within a budget of memory.
//!
//! A model comes when a request names it, and leaves when nobody has used it for a while, or when another needs
//! its room; who uses it holds a [`Lease`], and leased models stay.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::fault::{MemoryShortage, ModelFault, ModelsError};
use super::repository::{ModelBytes, ModelEntry, ModelRepository};
use super::resident::{Lease, Resident};
use crate::engine::AdapterError;

/// How a [`Library`] keeps house.
#[derive(Clone, Debug)]
pub(in crate::http) struct LibraryOptions {
    /// Bytes that models may take.
    pub(in crate::http) memory: Option<u64>,
    /// How long a model stays that nobody uses.
    pub(in crate::http) unload_after: Option<Duration>,
    /// Adapters of a model that requests have loaded, at most.
    pub(in crate::http) adapters: usize,
}

/// See the module.
pub(in crate::http) struct Library {
    repository: Arc<dyn ModelRepository>,
    options: LibraryOptions,
    entries: Vec<ModelEntry>,
    /// Names and aliases.
    names: HashMap<String, usize>,
    places: Mutex<Vec<Place>>,
    /// Adapters that were taken out by hand: they come back by hand.
    withdrawn: Mutex<HashSet<(usize, String)>>,
    /// One model at a time comes or goes.
    turn: tokio::sync::Mutex<()>,
    /// How often each was loaded.
    loads: Vec<AtomicU64>,
}

/// Where a model is.
enum Place {
    Away,
    /// It is being loaded; what came of it is heard.
    Coming(watch::Receiver<Option<Result<Lease, ModelFault>>>),
    Here {
        resident: Arc<Resident>,
        owner: Box<dyn Any + Send>,
    },
    /// Its memory is not back yet.
    Leaving,
}

/// A model that has been loaded, and what its memory goes with.
type Loaded = (Resident, Box<dyn Any + Send>);

/// A name that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct NamedModel {
    /// Which entry.
    pub(in crate::http) model: usize,
    pub(in crate::http) adapter: Option<String>,
}

impl Library {
    /// The library of `repository`, with its models loaded that are to stay. That may take its time.
    ///
    /// # Errors
    /// [`ModelsError`].
    pub(in crate::http) fn open(
        repository: Arc<dyn ModelRepository>,
        options: LibraryOptions,
    ) -> Result<Arc<Self>, ModelsError> {
        let entries = repository.entries();
        if entries.is_empty() {
            return Err(ModelsError::None);
        }
        let mut names = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for name in std::iter::once(&entry.name).chain(&entry.aliases) {
                if name.is_empty() {
                    return Err(ModelsError::EmptyName { index });
                }
                if names.insert(name.clone(), index).is_some() {
                    return Err(ModelsError::SameName { name: name.clone() });
                }
            }
        }
        let loads = entries.iter().map(|_| AtomicU64::new(0)).collect();
        let places = Mutex::new(entries.iter().map(|_| Place::Away).collect());
        let library = Self {
            repository,
            options,
            entries,
            names,
            places,
            withdrawn: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            loads,
        };
        let (kept, others): (Vec<usize>, Vec<usize>) =
            (0..library.entries.len()).partition(|model| library.entries[*model].keep);
        for model in kept {
            let needs = library.measure(model)?;
            library.shortage(model, needs, |_| false).map_or(Ok(()), Err)?;
            library.put(model, library.load(model, needs)?);
        }
        for model in others {
            if let Some(needs) = library.entries[model].bytes
                && let Some(shortage) = library.shortage(model, needs, |_| true)
            {
                tracing::warn!("{shortage}: requests for it will be refused");
            }
        }
        Ok(Arc::new(library))
    }

    pub(in crate::http) fn entries(&self) -> &[ModelEntry] {
        &self.entries
    }

    /// What `name` names.
    pub(in crate::http) fn named(&self, name: &str) -> Option<NamedModel> {
        if let Some(&model) = self.names.get(name) {
            return Some(NamedModel { model, adapter: None });
        }
        let model = (0..self.entries.len()).find(|model| self.has_adapter(*model, name))?;
        Some(NamedModel { model, adapter: Some(name.to_owned()) })
    }

    fn has_adapter(&self, model: usize, name: &str) -> bool {
        let loaded = self.resident(model).map(|resident| resident.engine.adapters());
        loaded.is_some_and(|loaded| loaded.iter().any(|adapter| adapter == name))
            || self.loadable(model).iter().any(|adapter| adapter == name)
    }

    /// The adapters of a model that are loaded or that a request can have loaded, sorted.
    pub(in crate::http) fn adapters(&self, model: usize) -> Vec<String> {
        let mut names = self.loadable(model);
        names.extend(self.resident(model).map(|it| it.engine.adapters()).unwrap_or_default());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn loadable(&self, model: usize) -> Vec<String> {
        let mut names = self.repository.adapters(&self.entries[model].name);
        let withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|name| !withdrawn.contains(&(model, name.clone())));
        names
    }

    /// Whether an adapter that was unloaded by hand may be loaded by a request that uses it.
    pub(in crate::http) fn withdraw_adapter(&self, model: usize, name: &str, withdrawn: bool) {
        let mut all = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        match withdrawn {
            true => all.insert((model, name.to_owned())),
            false => all.remove(&(model, name.to_owned())),
        };
    }

    /// The model at `model`, where it is loaded.
    pub(in crate::http) fn resident(&self, model: usize) -> Option<Arc<Resident>> {
        match &self.places()[model] {
            Place::Here { resident, .. } => Some(resident.clone()),
            _ => None,
        }
    }

    /// The models that are loaded, in the order of the entries.
    pub(in crate::http) fn residents(&self) -> Vec<Arc<Resident>> {
        (0..self.entries.len()).filter_map(|model| self.resident(model)).collect()
    }

    /// How often the model was loaded.
    pub(in crate::http) fn loads(&self, model: usize) -> u64 {
        self.loads[model].load(Ordering::Relaxed)
    }

    /// Tokens that fit into a model, as far as that is known.
    pub(in crate::http) fn max_positions(&self, model: usize) -> Option<usize> {
        let resident = self.resident(model).map(|it| it.engine.limits().max_positions);
        resident.or(self.entries[model].max_positions)
    }

    /// What a model takes, as far as that is known.
    pub(in crate::http) fn bytes(&self, model: usize) -> Option<ModelBytes> {
        self.resident(model).map(|resident| resident.bytes).or(self.entries[model].bytes)
    }

    /// How long a model stays that nobody uses.
    pub(in crate::http) fn unload_after(&self, model: usize) -> Option<Duration> {
        self.options.unload_after.filter(|_| !self.entries[model].keep)
    }

    /// What a model reads and writes by; it may take its time.
    pub(in crate::http) fn text(
        &self,
        model: usize,
    ) -> Result<Arc<dyn lightglm_text::ChatText>, ModelFault> {
        if let Some(resident) = self.resident(model) {
            return Ok(resident.text.clone());
        }
        let text = self.repository.text(&self.entries[model].name);
        text.map_err(|reason| self.fault(model, reason))
    }

    /// The model at `model`, loaded if it was not.
    ///
    /// # Errors
    /// [`ModelFault`], the same for all that wait for it.
    pub(in crate::http) async fn lease(
        self: &Arc<Self>,
        model: usize,
    ) -> Result<Lease, ModelFault> {
        let mut coming = {
            let mut places = self.places();
            match &places[model] {
                Place::Here { resident, .. } => return Ok(Lease::new(resident.clone())),
                Place::Coming(coming) => coming.clone(),
                place @ (Place::Away | Place::Leaving) => {
                    let is_away = matches!(place, Place::Away);
                    let (heard, coming) = watch::channel(None);
                    // What leaves is away when the turn comes.
                    if is_away {
                        places[model] = Place::Coming(coming.clone());
                    }
                    let library = self.clone();
                    // On its own, for who asked may go.
                    tokio::spawn(async move {
                        let came = library.bring(model).await;
                        let _ = heard.send(Some(came));
                    });
                    coming
                }
            }
        };
        match coming.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(came)) => came.clone(),
            // It panicked: the next request tries again.
            _ => {
                let mut places = self.places();
                if let Place::Coming(_) = &places[model] {
                    places[model] = Place::Away;
                }
                Err(self.fault(model, "its loading was given up".to_owned()))
            }
        }
    }

    /// Loads an adapter of a model for a request that uses it, if it is not there. It may take its time.
    ///
    /// # Errors
    /// [`AdapterError`].
    pub(in crate::http) fn load_adapter(
        &self,
        lease: &Lease,
        name: &str,
    ) -> Result<(), AdapterError> {
        lease.load_adapter(name, self.options.adapters)
    }

    /// Whether the adapter is loaded; takes note that it is used.
    pub(in crate::http) fn uses_adapter(&self, lease: &Lease, name: &str) -> bool {
        let loaded = lease.engine.adapters().iter().any(|adapter| adapter == name);
        if loaded {
            lease.use_adapter(name);
        }
        loaded
    }

    /// Unloads a model that nobody uses. False where somebody does, and where it stays.
    pub(in crate::http) async fn unload(self: &Arc<Self>, model: usize) -> bool {
        let _turn = self.turn.lock().await;
        self.send_away(model, Duration::ZERO).await
    }

    /// No new requests.
    pub(in crate::http) fn drain(&self) {
        self.residents().iter().for_each(|resident| resident.engine.drain());
    }

    /// No engine works.
    pub(in crate::http) fn is_idle(&self) -> bool {
        self.residents().iter().all(|resident| resident.engine.is_idle())
    }

    /// No engine has died.
    pub(in crate::http) fn is_alive(&self) -> bool {
        self.residents().iter().all(|resident| resident.engine.is_alive())
    }

    /// Ends all engines, and waits for that.
    pub(in crate::http) async fn end(&self) {
        let owners: Vec<_> = {
            let mut places = self.places();
            let left = places.iter_mut().map(|place| std::mem::replace(place, Place::Away));
            left.filter_map(|place| match place {
                Place::Here { resident, owner } => Some((resident, owner)),
                _ => None,
            })
            .collect()
        };
        // A panic in there has been reported by then.
        let _ = spawn_blocking(move || drop(owners)).await;
    }

    async fn bring(self: &Arc<Self>, model: usize) -> Result<Lease, ModelFault> {
        let begin = Instant::now();
        // It may have to be fetched, which keeps no other waiting.
        let needs = self.elsewhere(model, Self::measure).await;
        let _turn = self.turn.lock().await;
        if let Place::Here { resident, .. } = &self.places()[model] {
            return Ok(Lease::new(resident.clone()));
        }
        let came = async {
            let needs = needs?;
            self.make_room(model, needs).await?;
            let load = move |library: &Self, model| library.load(model, needs);
            Ok(self.put(model, self.elsewhere(model, load).await?))
        };
        match came.await {
            Ok(lease) => {
                let (seconds, bytes) = (begin.elapsed().as_secs_f32(), lease.bytes.total());
                tracing::info!(model = %lease.name, seconds, bytes, "model loaded");
                if let Some(after) = self.unload_after(model) {
                    tokio::spawn(watch_idle(Arc::downgrade(self), model, lease.watched(), after));
                }
                Ok(lease)
            }
            Err(fault) => {
                self.places()[model] = Place::Away;
                match &fault {
                    ModelFault::Load { model, reason } => {
                        tracing::error!(%model, %reason, "model not loaded");
                    }
                    ModelFault::Memory(shortage) => tracing::warn!("{shortage}"),
                }
                Err(fault)
            }
        }
    }

    /// Runs `work` on a thread that may wait.
    async fn elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        model: usize,
        work: impl FnOnce(&Self, usize) -> Result<T, ModelFault> + Send + 'static,
    ) -> Result<T, ModelFault> {
        let library = self.clone();
        let done = spawn_blocking(move || work(&library, model)).await;
        done.unwrap_or_else(|error| Err(self.fault(model, format!("its loading ended: {error}"))))
    }

    fn measure(&self, model: usize) -> Result<ModelBytes, ModelFault> {
        let bytes = self.repository.bytes(&self.entries[model].name);
        bytes.map_err(|reason| self.fault(model, reason))
    }

    fn load(&self, model: usize, bytes: ModelBytes) -> Result<Loaded, ModelFault> {
        let name = &self.entries[model].name;
        let loaded = self.repository.load(name).map_err(|reason| self.fault(model, reason))?;
        Ok(Resident::new(name.clone(), bytes, loaded))
    }

    fn fault(&self, model: usize, reason: String) -> ModelFault {
        ModelFault::Load { model: self.entries[model].name.clone(), reason }
    }

    fn put(&self, model: usize, (resident, owner): Loaded) -> Lease {
        let resident = Arc::new(resident);
        let lease = Lease::new(resident.clone());
        self.loads[model].fetch_add(1, Ordering::Relaxed);
        self.places()[model] = Place::Here { resident, owner };
        lease
    }

    /// What is missing for `needs` bytes beside the models that are here, but for those that `may_leave`.
    fn shortage(
        &self,
        model: usize,
        needs: ModelBytes,
        may_leave: impl Fn(&Resident) -> bool,
    ) -> Option<ModelFault> {
        let budget = self.options.memory?;
        let places = self.places();
        let stay = places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Here { resident, .. } if self.entries[index].keep || !may_leave(resident) => {
                Some(resident.bytes.total())
            }
            // On its way out, its room will be there.
            _ => None,
        });
        let stay: Vec<u64> = stay.collect();
        let kept = places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Here { resident, .. } if self.entries[index].keep => {
                Some(resident.bytes.total())
            }
            _ => None,
        });
        let kept: u64 = kept.sum();
        let taken: u64 = stay.iter().sum();
        if taken.saturating_add(needs.total()) <= budget {
            return None;
        }
        let name = self.entries[model].name.clone();
        Some(ModelFault::Memory(MemoryShortage {
            model: name,
            needs,
            budget,
            taken,
            kept,
            models: stay.len(),
        }))
    }

    /// Sends models away until `needs` bytes are free: those that nobody uses, the least recently used first, and
    /// none where that is not enough.
    async fn make_room(&self, model: usize, needs: ModelBytes) -> Result<(), ModelFault> {
        loop {
            if let Some(shortage) = self.shortage(model, needs, |it| !it.in_use()) {
                return Err(shortage);
            }
            if self.shortage(model, needs, |_| false).is_none() {
                return Ok(());
            }
            let least = {
                let places = self.places();
                let idle = places.iter().enumerate().filter_map(|(index, place)| match place {
                    Place::Here { resident, .. } if !self.entries[index].keep => {
                        (!resident.in_use()).then(|| (index, resident.idle_for()))
                    }
                    _ => None,
                });
                idle.max_by_key(|(_, idle)| *idle).map(|(index, _)| index)
            };
            // None is left where somebody has just begun to use it: the shortage is told in the next round.
            if let Some(least) = least {
                self.send_away(least, Duration::ZERO).await;
            }
        }
    }

    /// Unloads a model that nobody has used for so long, unless it stays. The caller has the turn.
    async fn send_away(&self, model: usize, idle: Duration) -> bool {
        let (resident, owner) = {
            let mut places = self.places();
            let Place::Here { resident, .. } = &places[model] else { return false };
            // Leases begin where places are locked: none begins now.
            if self.entries[model].keep || resident.in_use() || resident.idle_for() < idle {
                return false;
            }
            match std::mem::replace(&mut places[model], Place::Leaving) {
                Place::Here { resident, owner } => (resident, owner),
                other => {
                    places[model] = other;
                    return false;
                }
            }
        };
        let bytes = resident.bytes.total();
        // A panic in there has been reported by then.
        let _ = spawn_blocking(move || drop((resident, owner))).await;
        self.places()[model] = Place::Away;
        tracing::info!(model = %self.entries[model].name, bytes, "model unloaded");
        true
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unloads a model once nobody has used it for so long.
async fn watch_idle(
    library: Weak<Library>,
    model: usize,
    resident: Weak<Resident>,
    after: Duration,
) {
    loop {
        let Some(idle) = resident.upgrade().map(|resident| resident.idle_for()) else { return };
        if idle < after {
            tokio::time::sleep((after - idle).max(Duration::from_millis(10))).await;
            continue;
        }
        let Some(library) = library.upgrade() else { return };
        let _turn = library.turn.lock().await;
        // Another may have come in its place, which has a watcher of its own.
        let is_it = library
            .resident(model)
            .is_some_and(|now| Weak::ptr_eq(&Arc::downgrade(&now), &resident));
        if !is_it || library.send_away(model, after).await {
            return;
        }
    }
}
