//! Pictures and recordings in: files to pixels and samples, with limits, and from there to what the towers of a
//! GLM read. No tensors.
//!
//! **Should I use this crate?** Through `lightglm`, which hands pictures and sound to a model. Use it alone to decode what strangers
//! send: a hostile file costs its sender an error ([`MediaLimits`]).
//!
//! | from | to | by |
//! |---|---|---|
//! | PNG, JPEG, WebP | [`Picture`]: RGB, upright, over white | [`Picture::decode`] |
//! | [`Picture`] | rows of patches `[patches, 3 T p p]` | [`smart_resize`], [`Picture::resized`], [`Patches`] |
//! | WAV, FLAC, MP3, Ogg Vorbis | [`Pcm`]: mono, any rate | [`Pcm::decode`] |
//! | [`Pcm`] | another rate, log-mel spectra `[mels, frames]` | [`Pcm::resampled`], [`LogMel`] |
//!
//! What a file is, its content decides, never a name or a declared type. What a person sees is what a model sees: the EXIF
//! orientation is applied, transparency stands over white, 16 bits and grey are scaled. Colour profiles are not applied. Of an
//! animation it is the first picture.
//!
//! ```
//! use lightglm_media::{MediaLimits, Picture};
//!
//! let error = Picture::decode(b"GIF89a", &MediaLimits::default()).unwrap_err();
//! assert_eq!(error.code(), "unsupported_media");
//! ```

mod error;
mod limits;
mod picture;
mod sound;

pub use error::MediaError;
pub use limits::MediaLimits;
pub use picture::{PatchSettings, Patches, Picture, smart_resize};
pub use sound::{LogMel, Pcm};
