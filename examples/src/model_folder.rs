//! `ModelFolder`, which is the library's.

pub use lightglm::ModelFolder;
