//! Files to pixels.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::Picture;
use crate::error::MediaError;
use crate::limits::MediaLimits;

const EXPECTED: &str = "a PNG, JPEG or WebP picture";

/// Memory for what a file has beside its pixels: colour profiles, texts, tables.
const BESIDE: u64 = 16 << 20;

#[derive(Clone, Copy)]
enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Picture {
    /// Decodes a PNG, JPEG or WebP file, upright and over white. Of an animation it is the first picture.
    ///
    /// # Errors
    /// [`MediaError`]: what it is instead, what is wrong in it, which limit it passes.
    pub fn decode(bytes: &[u8], limits: &MediaLimits) -> Result<Self, MediaError> {
        limits.check_bytes(bytes.len())?;
        let format = Format::of(bytes)?;
        let name = format.name();
        MediaError::guard(name, || match format {
            Format::Png => {
                if let Some((width, height)) = png_size(bytes) {
                    limits.check_size(width, height)?;
                }
                let decoder = PngDecoder::with_limits(Cursor::new(bytes), memory(limits));
                decoded(decoder.map_err(|error| damaged(name, error))?, name, limits)
            }
            Format::Jpeg => {
                if !has_end(bytes) {
                    return Err(MediaError::damaged(name, "ends too early"));
                }
                let decoder = JpegDecoder::new(Cursor::new(bytes));
                decoded(decoder.map_err(|error| damaged(name, error))?, name, limits)
            }
            Format::WebP => {
                let decoder = WebPDecoder::new(Cursor::new(bytes));
                decoded(decoder.map_err(|error| damaged(name, error))?, name, limits)
            }
        })
    }
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self, MediaError> {
        let riff = |kind: &[u8]| bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(kind);
        let brand = |brands: &[&[u8; 4]]| {
            bytes.get(4..8) == Some(b"ftyp")
                && bytes.get(8..12).is_some_and(|brand| brands.iter().any(|b| brand == &b[..]))
        };
        let text = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
        let text = bytes.get(text.unwrap_or(0)..).unwrap_or_default();
        let found = match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => return Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => return Ok(Self::Jpeg),
            _ if riff(b"WEBP") => return Ok(Self::WebP),
            [b'G', b'I', b'F', b'8', ..] => "a GIF",
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF",
            [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "a JPEG 2000",
            [b'B', b'M', ..] => "a BMP",
            [0, 0, 1, 0, ..] => "an icon",
            [0xff, 0x0a, ..] => "a JPEG XL",
            [b'%', b'P', b'D', b'F', ..] => "a PDF",
            _ if brand(&[b"avif", b"avis"]) => "an AVIF",
            _ if brand(&[b"heic", b"heix", b"heif", b"mif1", b"msf1"]) => "a HEIC",
            _ if text.starts_with(b"<svg") || text.starts_with(b"<?xml") => "an SVG",
            [] => "an empty file",
            _ => "a file of an unknown kind",
        };
        Err(MediaError::Unsupported { found, expected: EXPECTED })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        }
    }
}

/// Width and height of a PNG: its header is always the first chunk.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.get(12..16) == Some(b"IHDR")).then_some(())?;
    Some((number(16)?, number(20)?))
}

/// Whether a JPEG's last scan has an end: the decoder fills up what is missing. Neither marker can stand within a scan.
fn has_end(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|two| two == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

/// What a decoder may allocate: 8 bytes a pixel (four channels of 16 bits).
fn memory(limits: &MediaLimits) -> Limits {
    let mut memory = Limits::no_limits();
    memory.max_alloc = Some(limits.pixels.saturating_mul(8).saturating_add(BESIDE));
    memory
}

fn decoded(
    mut decoder: impl ImageDecoder,
    name: &'static str,
    limits: &MediaLimits,
) -> Result<Picture, MediaError> {
    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    decoder.set_limits(memory(limits)).map_err(|error| damaged(name, error))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(name, error))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    Picture::new(width, height, over_white(image, name)?)
}

/// The pixels as a person sees them on a white page.
fn over_white(image: DynamicImage, name: &'static str) -> Result<Vec<u8>, MediaError> {
    let white8 = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let white16 = |value: u16, alpha: u16| {
        let (value, alpha) = (u64::from(value), u64::from(alpha));
        // Of 65535 * 65535 to of 255, rounded.
        let (seen, whole) = (value * alpha + 65535 * (65535 - alpha), 65535 * 65535);
        ((seen * 255 + whole / 2) / whole) as u8
    };
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => {
            image.into_raw().into_iter().flat_map(|grey| [grey; 3]).collect()
        }
        DynamicImage::ImageLumaA8(image) => {
            image.pixels().flat_map(|pixel| [white8(pixel[0], pixel[1]); 3]).collect()
        }
        DynamicImage::ImageRgba8(image) => {
            image.pixels().flat_map(|p| [0, 1, 2].map(|c| white8(p[c], p[3]))).collect()
        }
        DynamicImage::ImageLuma16(image) => {
            image.pixels().flat_map(|pixel| [white16(pixel[0], 65535); 3]).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [white16(pixel[0], pixel[1]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => {
            image.pixels().flat_map(|p| [0, 1, 2].map(|c| white16(p[c], 65535))).collect()
        }
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [0, 1, 2].map(|c| white16(p[c], p[3]))).collect()
        }
        _ => return Err(MediaError::damaged(name, "pixels of an unknown kind")),
    })
}

fn damaged(format: &'static str, error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::damaged(format, "needs more memory than is allowed"),
        error => {
            let text = error.to_string();
            // The format's name stands there already.
            let reason =
                text.strip_prefix("Format error decoding ").and_then(|t| t.split_once(": "));
            MediaError::damaged(format, reason.map_or(&*text, |(_, reason)| reason))
        }
    }
}
