//! Pictures and recordings of requests: from bytes to places in a prompt.

mod data_uri;
mod encode;
mod part;

use std::sync::Arc;

use lightglm_core::MediaKind;
use lightglm_generation::media::{MediaStore, Medium};

pub(in crate::http) use encode::{Placed, count_media, encode_media, encode_pieces};
pub(in crate::http) use part::{ImageUrl, InputAudio, PendingMedia, audio_of, image_of};

/// What a picture may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// A few hundred rows at most.
    Low,
    /// What a page needs to be read.
    #[default]
    Auto,
    /// As large as the model takes it.
    High,
}

/// Why a file is not taken. It goes to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MediaRefusal {
    /// For programs: stays the same when the words change.
    pub code: &'static str,
    /// In words, without addresses and paths.
    pub reason: String,
}

/// A stretch of a recording.
#[derive(Clone, Debug)]
pub struct RecordingPiece {
    /// When it begins, in seconds.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// The stretch.
    pub medium: Medium,
}

/// Turns the files of requests into pixels and samples, within limits. It is called on threads that may wait.
pub trait MediaDecoder: Send + Sync {
    /// Reads a file by what is in it.
    ///
    /// # Errors
    /// [`MediaRefusal`].
    fn decode(&self, kind: MediaKind, bytes: &[u8], detail: Detail)
    -> Result<Medium, MediaRefusal>;

    /// A recording in pieces that a model hears at a time.
    fn pieces(&self, recording: Medium) -> Vec<RecordingPiece>;
}

/// What a model sees and hears with.
#[derive(Clone)]
pub struct ServedMedia {
    /// Files to pixels and samples.
    pub decoder: Arc<dyn MediaDecoder>,
    /// Pixels and samples to rows.
    pub store: Arc<MediaStore>,
}

impl std::fmt::Debug for ServedMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedMedia").field("store", &self.store).finish_non_exhaustive()
    }
}
