//! `Turn`: what is said next, with the pictures and recordings that are in it.

use std::sync::Arc;

use lightglm_core::MediaKind;
pub use lightglm_generation::media::Medium;
use lightglm_text::Message;
use serde_json::{Value, json};

use crate::error::Error;

/// What can be said that is no text: a decoded picture or recording.
pub trait IntoMedium {
    /// As encoders take it.
    fn into_medium(self) -> Medium;
}

impl IntoMedium for Medium {
    fn into_medium(self) -> Medium {
        self
    }
}

#[cfg(feature = "media")]
impl IntoMedium for lightglm_media::Picture {
    fn into_medium(self) -> Medium {
        let (height, width) = (self.height(), self.width());
        Medium::Picture { height, width, rgb: self.into_rgb() }
    }
}

#[cfg(feature = "media")]
impl IntoMedium for lightglm_media::Pcm {
    fn into_medium(self) -> Medium {
        let rate = self.rate();
        Medium::Sound { samples: self.into_samples(), rate }
    }
}

/// The part of a message's content that stands for a medium.
fn part(medium: &Medium) -> Value {
    match medium.input().kind() {
        MediaKind::Picture => json!({"type": "image"}),
        MediaKind::Sound => json!({"type": "audio"}),
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
    pub fn medium(mut self, medium: impl IntoMedium) -> Self {
        let medium = medium.into_medium();
        self.parts.push(part(&medium));
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
    fn decoded(mut self, decoded: Result<impl IntoMedium, lightglm_media::MediaError>) -> Self {
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
