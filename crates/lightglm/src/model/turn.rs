//! `Turn`: what is said next, with the pictures and recordings that are in it.

use std::sync::Arc;

use lightglm_core::{MediaInput, MediaKind};
use lightglm_text::Message;
use serde_json::{Value, json};

use crate::error::Error;

/// A picture or a recording.
#[derive(Clone, PartialEq)]
pub enum Medium {
    /// Pixels, `[height, width, 3]`: red, green, blue.
    Picture {
        /// Rows.
        height: usize,
        /// Pixels of a row.
        width: usize,
        /// The pixels.
        rgb: Vec<u8>,
    },
    /// A recording of one channel.
    Sound {
        /// Samples, mostly between -1 and 1.
        samples: Vec<f32>,
        /// Samples a second.
        rate: u32,
    },
}

impl Medium {
    /// As encoders take it.
    pub fn input(&self) -> MediaInput<'_> {
        match self {
            Self::Picture { height, width, rgb } => {
                MediaInput::Picture { height: *height, width: *width, rgb }
            }
            Self::Sound { samples, rate } => MediaInput::Sound { samples, rate: *rate },
        }
    }

    /// The part of a message's content that stands for it.
    fn part(&self) -> Value {
        match self.input().kind() {
            MediaKind::Picture => json!({"type": "image"}),
            MediaKind::Sound => json!({"type": "audio"}),
        }
    }
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Picture { height, width, .. } => write!(f, "Picture({width} x {height})"),
            Self::Sound { samples, rate } => write!(f, "Sound({} at {rate}/s)", samples.len()),
        }
    }
}

#[cfg(feature = "media")]
impl From<lightglm_media::Picture> for Medium {
    fn from(picture: lightglm_media::Picture) -> Self {
        let (height, width) = (picture.height(), picture.width());
        Self::Picture { height, width, rgb: picture.into_rgb() }
    }
}

#[cfg(feature = "media")]
impl From<lightglm_media::Pcm> for Medium {
    fn from(recording: lightglm_media::Pcm) -> Self {
        let rate = recording.rate();
        Self::Sound { samples: recording.into_samples(), rate }
    }
}

/// A message, and the pictures and recordings that its content has parts for, in their order.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The message.
    pub message: Message,
    /// As many as there are parts of the types `image` and `audio` in its content.
    pub media: Vec<Arc<Medium>>,
}

/// What can be said: a [`Message`], or one with pictures and recordings ([`user`]).
pub trait IntoTurn {
    /// As a turn.
    ///
    /// # Errors
    /// Where a file is no picture or recording.
    fn into_turn(self) -> Result<Turn, Error>;
}

impl IntoTurn for Turn {
    fn into_turn(self) -> Result<Turn, Error> {
        Ok(self)
    }
}

impl IntoTurn for Message {
    fn into_turn(self) -> Result<Turn, Error> {
        Ok(Turn { message: self, media: Vec::new() })
    }
}

/// What a user says, part after part; see [`user`].
#[derive(Debug, Default)]
pub struct UserMessage {
    parts: Vec<Value>,
    media: Vec<Arc<Medium>>,
    #[cfg(feature = "media")]
    error: Option<Error>,
}

/// What a user says with pictures and recordings in it, in the order of the calls.
///
/// ```no_run
/// # use lightglm::{LoadOptions, Model, user};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::open("GLM-OCR", LoadOptions::default())?;
/// let page = std::fs::read("page.png")?;
/// let reply = model.chat().say(user().image(&page).text("Text Recognition:"))?.finish()?;
/// # Ok(())
/// # }
/// ```
pub fn user() -> UserMessage {
    UserMessage::default()
}

impl UserMessage {
    /// A text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.parts.push(json!({"type": "text", "text": text.into()}));
        self
    }

    /// A picture or a recording that is decoded already.
    #[must_use]
    pub fn medium(mut self, medium: impl Into<Medium>) -> Self {
        let medium = medium.into();
        self.parts.push(medium.part());
        self.media.push(Arc::new(medium));
        self
    }

    /// A PNG, JPEG or WebP file's bytes. What is wrong with them, the message's use tells.
    #[cfg(feature = "media")]
    #[must_use]
    pub fn image(self, bytes: &[u8]) -> Self {
        self.decoded(lightglm_media::Picture::decode(
            bytes,
            &lightglm_media::MediaLimits::default(),
        ))
    }

    /// A WAV, FLAC, MP3 or Ogg Vorbis file's bytes. What is wrong with them, the message's use tells.
    #[cfg(feature = "media")]
    #[must_use]
    pub fn audio(self, bytes: &[u8]) -> Self {
        self.decoded(lightglm_media::Pcm::decode(bytes, &lightglm_media::MediaLimits::default()))
    }

    #[cfg(feature = "media")]
    fn decoded(mut self, decoded: Result<impl Into<Medium>, lightglm_media::MediaError>) -> Self {
        match decoded {
            Ok(medium) => self.medium(medium),
            Err(error) => {
                self.error.get_or_insert(error.into());
                self
            }
        }
    }
}

impl IntoTurn for UserMessage {
    fn into_turn(self) -> Result<Turn, Error> {
        #[cfg(feature = "media")]
        if let Some(error) = self.error {
            return Err(error);
        }
        let message = Message::new("user", Value::Array(self.parts));
        Ok(Turn { message, media: self.media })
    }
}
