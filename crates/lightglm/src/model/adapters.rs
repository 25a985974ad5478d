//! LoRA adapters by name, beside the parts of a base model whose weights they share.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{Glm, SwiGlu};
use lightglm_train::lora::Lora;
use lightglm_train::peft::load_adapter;

use super::language_model::{LanguageModel, LoadAdapter};
use super::load::matrices;
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
    let read = reader(checkpoint);
    Arc::new(move |name| {
        let lora = read(&folder_in(&folder, name)?, name)?;
        let base = Glm::clone(&base);
        let tied = base.lm_head.is_none();
        let adapted = base.map_linears(|name: &str, linear: L| lora.wrap(name, linear));
        let adapted = adapted.map_embedding(|table| lora.wrap_embedding(table, tied));
        check_placed(&lora)?;
        Ok(Arc::new(adapted) as Arc<dyn LanguageModel<B>>)
    })
}

/// Reads the adapter in a folder, by a name, for `checkpoint`'s model.
fn reader(checkpoint: &Checkpoint) -> impl Fn(&Path, &str) -> Result<Lora, Error> + use<> {
    let shapes = matrices(checkpoint.config());
    let layout = checkpoint.adapter_layout();
    move |folder, name| {
        let shape =
            |wanted: &str| shapes.iter().find(|(name, _)| name == wanted).map(|&(_, shape)| shape);
        Ok(load_adapter(folder, name, &shape, layout)?)
    }
}

/// The adapter in `folder`, for `checkpoint`'s model, under the folder's name.
///
/// # Errors
/// [`Error::Peft`].
pub(crate) fn read_adapter(checkpoint: &Checkpoint, folder: &Path) -> Result<Lora, Error> {
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    reader(checkpoint)(folder, &name)
}

/// Refuses an adapter of which not everything has found its place.
fn check_placed(lora: &Lora) -> Result<(), Error> {
    match lora.unplaced().as_slice() {
        [] => Ok(()),
        [projection, ..] => {
            let reason = format!("the model applies no adapter to `{projection}`");
            Err(Error::Adapter { name: lora.name().to_owned(), reason })
        }
    }
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
