//! The size in which a tower reads a picture.

use crate::error::MediaError;

/// Pictures of a video's step: a still picture counts as two.
const FRAMES: f64 = 2.0;

/// How many times the shorter side the longer one may be.
const ASPECT: f64 = 200.0;

/// Height and width, multiples of `factor` near the picture's own, with `min_pixels` to `max_pixels` pixels, a still picture
/// counted twice.
///
/// Source: transformers' `smart_resize` of Glm4v (image_processing_glm4v.py).
///
/// # Errors
/// [`MediaError::TooNarrow`] where one side is more than 200 times the other, [`MediaError::NoSize`] where a side or `factor` is 0.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize), MediaError> {
    let no_size = || MediaError::NoSize { width, height, factor, min_pixels, max_pixels };
    if height == 0 || width == 0 || factor == 0 {
        return Err(no_size());
    }
    let side = factor as f64;
    let (mut h, mut w) = (height as f64, width as f64);
    if h < side || w < side {
        let scale = f64::max(side / h, side / w);
        (h, w) = ((h * scale).trunc(), (w * scale).trunc());
    }
    if f64::max(h, w) / f64::min(h, w) > ASPECT {
        return Err(MediaError::TooNarrow {
            width: width as u32,
            height: height as u32,
            limit: ASPECT as u32,
        });
    }
    let rounded = |x: f64| (x / side).round_ties_even() * side;
    let (mut to_h, mut to_w) = (rounded(h), rounded(w));
    let pixels = FRAMES * to_h * to_w;
    if pixels > max_pixels as f64 {
        let beta = (FRAMES * h * w / max_pixels as f64).sqrt();
        let shrunk = |x: f64| ((x / beta / side).floor() * side).max(side);
        (to_h, to_w) = (shrunk(h), shrunk(w));
    } else if pixels < min_pixels as f64 {
        let beta = (min_pixels as f64 / (FRAMES * h * w)).sqrt();
        let grown = |x: f64| (x * beta / side).ceil() * side;
        (to_h, to_w) = (grown(h), grown(w));
    }
    // Settings that ask for more than there could be.
    if !(to_h * to_w).is_finite() || to_h * to_w > u32::MAX as f64 {
        return Err(no_size());
    }
    Ok((to_h as usize, to_w as usize))
}
