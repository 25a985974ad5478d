//! Below [`Model`](crate::Model): the same models with the backend in their types, for those who bring a
//! backend, a cache or a loop of their own.
//!
//! [`load`] makes what [`Model::open`](crate::Model::open) has inside;
//! [`Model::loaded`](crate::Model::loaded) gives it back. [`run_on`] runs a job that is written once on
//! a device that is chosen at run time.
//!
//! ```no_run
//! use lightglm::generic::load;
//! use lightglm::{Cpu, LoadOptions, ProgressSink, checkpoint};
//!
//! # fn main() -> Result<(), lightglm::Error> {
//! let checkpoint = checkpoint::open("glm-4-9b-0414", &ProgressSink::default())?;
//! let loaded = load::<Cpu>(&checkpoint, &LoadOptions::default(), &Default::default())?;
//! println!("{}: a token reads {} bytes", loaded.scheme, loaded.model.bytes_read(1));
//! # Ok(())
//! # }
//! ```

pub use crate::device::{DeviceJob, run_on};
pub use crate::model::{
    LanguageModel, LoadAdapter, Loaded, Quantized, QuantizedGlm, load, load_quantized, load_source,
    matrices, quantize_source, recommended,
};
