//! Encoders that turn speech into rows of a GLM decoder: GLM-ASR's (`glmasr`), a Whisper encoder with a rotary embedding.
//!
//! **Should I use this crate?** To run a model that hears, start at `lightglm`. Take this crate to run an encoder alone or to
//! replace its projections ([`SpeechTower::map_linears`]: INT8, adapters).
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{MediaEncoder, MediaInput};
//! use lightglm_media::{MediaLimits, Pcm};
//! use lightglm_model::checkpoint::Checkpoint;
//! use lightglm_model::decoder::LoadPrecision;
//! use lightglm_speech::SpeechEncoder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open(Path::new("GLM-ASR-Nano-2512"))?;
//! let encoder = SpeechEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice)?;
//! let recording = Pcm::decode(&std::fs::read("call.mp3")?, &MediaLimits::default())?;
//! let (samples, rate) = (recording.samples(), recording.rate());
//! let rows = encoder.encode(
//!     &MediaInput::Sound { samples, rate },
//!     &mut || ControlFlow::Continue(()),
//! )?;
//! # Ok(())
//! # }
//! ```

mod encoder;
mod load;
mod save;
mod tower;
mod weights;

pub use encoder::SpeechEncoder;
pub use tower::{
    DenseSpeechTower, Projector, Site, SpeechAttention, SpeechLayer, SpeechMlp, SpeechTower,
};
pub use weights::speech_weights;
