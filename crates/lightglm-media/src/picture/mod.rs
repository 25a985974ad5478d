//! Pictures: files to pixels, other sizes, patches.

mod decode;
mod patches;
mod resize;
mod smart_resize;

pub use patches::{PatchSettings, Patches};
pub use smart_resize::smart_resize;

use crate::error::MediaError;

/// A picture: rows of pixels from the top, each red, green, blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of `[height, width, 3]` bytes.
    ///
    /// # Errors
    /// [`MediaError::NotPixels`] where a side is 0 or the bytes are not as many.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, MediaError> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if width == 0 || height == 0 || bytes != Some(rgb.len()) {
            return Err(MediaError::NotPixels { width, height, bytes: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, `[height, width, 3]`, and nothing else.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// The pixels, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}
