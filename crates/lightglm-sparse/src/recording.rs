//! `Recording`: a policy that keeps everything and tells a [`Recorder`] what it saw.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use crate::{SparsityError, SparsityPolicy};

/// Keeps statistics of activations, by the name of what they are the input of.
pub trait Recorder: core::fmt::Debug + Send + Sync {
    /// Takes in `x: [T, width]`, row-major, of `name`.
    ///
    /// # Errors
    /// [`SparsityError::NotFinite`], [`SparsityError::Width`]. A forward pass cannot return them, so
    /// an implementation keeps the first and returns it when it is asked for its results.
    fn record(&self, name: &str, x: &[f32], width: usize) -> Result<(), SparsityError>;
}

/// Everything is active, and recorded.
#[derive(Module, Clone, Debug)]
pub struct Recording {
    #[module(skip)]
    name: String,
    #[module(skip)]
    recorder: Arc<dyn Recorder>,
}

impl Recording {
    /// Records what it sees as `name`.
    pub fn new(name: &str, recorder: Arc<dyn Recorder>) -> Self {
        Self { name: name.to_owned(), recorder }
    }
}

impl<B: Backend> SparsityPolicy<B> for Recording {
    fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [_, width] = x.dims();
        let data = x.to_data().convert::<f32>();
        if let Ok(rows) = data.as_slice::<f32>() {
            // The recorder keeps a failure until it is asked for its results.
            let _ = self.recorder.record(&self.name, rows, width);
        }
        x
    }
}
