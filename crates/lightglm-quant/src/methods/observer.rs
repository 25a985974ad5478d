//! `Observer`: who is told what goes into a layer; `ObservedLinear`: who tells.
//!
//! Shapes: `T` rows, `K` in_features, `N` out_features.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use lightglm_core::Linear;

use super::MethodError;
use super::statistics::{InputStatistics, Record};

/// Is shown the inputs of every observed layer.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// `x: [T, K]`, row-major, goes into the layer `name` (without `.weight`).
    fn observe(&self, name: &str, x: &[f32], width: usize);
}

/// Collects [`InputStatistics`] of every layer.
#[derive(Debug)]
pub struct StatisticsObserver {
    record: Record,
    collected: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    layers: BTreeMap<String, InputStatistics>,
    first_error: Option<MethodError>,
}

impl StatisticsObserver {
    /// An observer that has seen nothing yet.
    pub fn new(record: Record) -> Self {
        Self { record, collected: Mutex::default() }
    }

    /// What has been collected, by layer name; the observer starts anew.
    ///
    /// # Errors
    /// [`MethodError::InputNotFinite`] or [`MethodError::Width`], whichever came first.
    pub fn take(&self) -> Result<BTreeMap<String, InputStatistics>, MethodError> {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let collected = std::mem::take(&mut *collected);
        match collected.first_error {
            Some(error) => Err(error),
            None => Ok(collected.layers),
        }
    }
}

impl Observer for StatisticsObserver {
    fn observe(&self, name: &str, x: &[f32], width: usize) {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = collected.layers.entry(name.to_owned()).or_default();
        if let Err(error) = layer.add(name, x, width, self.record) {
            collected.first_error.get_or_insert(error);
        }
    }
}

/// A projection that shows its inputs to an [`Observer`] and computes what it computed before.
#[derive(Module, Debug)]
pub struct ObservedLinear<B: Backend, L: Module<B>> {
    linear: L,
    #[module(skip)]
    name: String,
    #[module(skip)]
    observer: Arc<dyn Observer>,
    #[module(skip)]
    backend: core::marker::PhantomData<B>,
}

impl<B: Backend, L: Linear<B>> ObservedLinear<B, L> {
    /// Observes `linear`, called `name`.
    pub fn new(name: &str, linear: L, observer: Arc<dyn Observer>) -> Self {
        Self { linear, name: name.to_owned(), observer, backend: core::marker::PhantomData }
    }

    /// The projection itself.
    pub fn into_inner(self) -> L {
        self.linear
    }
}

impl<B: Backend, L: Linear<B>> Linear<B> for ObservedLinear<B, L> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [_, width] = x.dims();
        let rows: Vec<f32> = x.to_data().iter::<f32>().collect();
        self.observer.observe(&self.name, &rows, width);
        self.linear.forward(x)
    }

    fn shape(&self) -> [usize; 2] {
        self.linear.shape()
    }

    fn bytes_read(&self) -> usize {
        self.linear.bytes_read()
    }
}
