//! `Single`: the repository of a server that was given its one model.

use std::sync::{Arc, Mutex, PoisonError};

use lightglm_text::ChatText;

use super::repository::{LoadedModel, ModelBytes, ModelEntry, ModelRepository};

/// A model that is loaded already.
pub(in crate::http) struct Single {
    entry: ModelEntry,
    text: Arc<dyn ChatText>,
    model: Mutex<Option<LoadedModel>>,
}

impl Single {
    pub(in crate::http) fn new(entry: ModelEntry, model: LoadedModel) -> Self {
        let bytes = Some(ModelBytes::default());
        let entry = ModelEntry { keep: true, bytes, ..entry };
        Self { entry, text: model.text.clone(), model: Mutex::new(Some(model)) }
    }
}

impl ModelRepository for Single {
    fn entries(&self) -> Vec<ModelEntry> {
        vec![self.entry.clone()]
    }

    fn bytes(&self, _: &str) -> Result<ModelBytes, String> {
        Ok(ModelBytes::default())
    }

    fn load(&self, _: &str) -> Result<LoadedModel, String> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It never leaves, so it never comes back.
        model.ok_or_else(|| "it is loaded".to_owned())
    }

    fn text(&self, _: &str) -> Result<Arc<dyn ChatText>, String> {
        Ok(self.text.clone())
    }
}
