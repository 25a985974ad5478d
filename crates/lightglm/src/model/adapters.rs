//! LoRA adapters by name, beside the projections of a base model whose weights they share.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_train::peft::load_adapter;

use super::language_model::{LanguageModel, LoadAdapter};
use super::load::{EMBEDDING, matrices};
use crate::error::Error;

/// Models of the adapters in `folder`, one folder each, in PEFT's layout.
pub(super) fn adapter_loader<B, L, E>(
    base: Arc<Glm<B, L, SwiGlu<B, L>, E>>,
    checkpoint: &Checkpoint,
    folder: PathBuf,
) -> LoadAdapter<B>
where
    B: LmBackend,
    L: Linear<B> + Send + Sync + 'static,
    E: Embedding<B> + Send + Sync + 'static,
{
    // Adapters go beside projections; a table of embeddings is none, tied or not.
    let mut shapes = matrices(checkpoint.config());
    shapes.retain(|(name, _)| name != EMBEDDING);
    let layout = checkpoint.adapter_layout();
    Arc::new(move |name| {
        let path = folder_in(&folder, name)?;
        let shape =
            |wanted: &str| shapes.iter().find(|(name, _)| name == wanted).map(|&(_, shape)| shape);
        let lora = load_adapter(&path, name, &shape, layout)?;
        let wrap = |name: &str, linear: L| lora.wrap(name, linear);
        let adapted: Arc<dyn LanguageModel<B>> = Arc::new(Glm::clone(&base).map_linears(wrap));
        match lora.unplaced().as_slice() {
            [] => Ok(adapted),
            [projection, ..] => {
                let reason = format!("the model applies no adapter to `{projection}`");
                Err(Error::Adapter { name: name.to_owned(), reason })
            }
        }
    })
}

/// `folder/name`, where `name` is a single, ordinary name.
fn folder_in(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(folder.join(name)),
        _ => Err(Error::Adapter {
            name: name.to_owned(),
            reason: "is not the name of a folder".to_owned(),
        }),
    }
}
