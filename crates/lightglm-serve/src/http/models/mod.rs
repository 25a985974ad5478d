//! The models of a server: which there are, which are loaded, and who uses them.

mod fault;
mod library;
mod model_state;
mod repository;
mod resident;
mod single;

pub(super) use fault::ModelFault;
pub use fault::{MemoryShortage, ModelsError};
pub(super) use library::{Library, LibraryOptions, NamedModel};
pub(super) use model_state::ModelState;
pub use repository::{LoadedModel, ModelBytes, ModelEntry, ModelRepository};
pub(super) use resident::Resident;
pub(super) use single::Single;
