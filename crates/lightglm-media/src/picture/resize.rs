//! Other sizes, as torchvision computes them.

use std::borrow::Cow;

use super::Picture;

/// Bits of a weight at most: they are held in 16.
const MOST_BITS: u32 = 22;

impl Picture {
    /// The picture in another size: bicubic, antialiased, in integers; equal to torchvision's to the bit.
    ///
    /// Source: PyTorch's `upsample_bicubic2d_aa` for bytes (ATen/native/cpu/UpSampleKernel.cpp): weights in 16 bits, the horizontal
    /// pass first, rounded to bytes between the passes.
    ///
    /// # Panics
    /// Where a side would be 0.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "a picture of {width} x {height} pixels");
        let mut rgb = Cow::Borrowed(&self.rgb);
        if width != self.width {
            rgb = Cow::Owned(horizontally(&rgb, self.width, &Weights::new(self.width, width)));
        }
        if height != self.height {
            rgb = Cow::Owned(vertically(&rgb, 3 * width, &Weights::new(self.height, height)));
        }
        Self { width, height, rgb: rgb.into_owned() }
    }
}

/// For each pixel of the new size, from where it is taken and with which weights.
struct Weights {
    /// Where the weights of a pixel begin to count, and its weights in `weights`.
    pixels: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i16>,
    bits: u32,
}

impl Weights {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        // A cubic reaches two pixels to each side, of the coarser size.
        let (support, inverse) = if scale >= 1.0 { (2.0 * scale, 1.0 / scale) } else { (2.0, 1.0) };
        let mut pixels = Vec::with_capacity(to);
        let mut exact: Vec<f64> = Vec::new();
        for i in 0..to {
            let center = scale * (i as f64 + 0.5);
            let first = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as i64).min(from as i64).max(0) as usize;
            let begin = exact.len();
            let weights = (first..end).map(|j| cubic((j as f64 - center + 0.5) * inverse));
            exact.extend(weights);
            let sum: f64 = exact[begin..].iter().sum();
            if sum != 0.0 {
                exact[begin..].iter_mut().for_each(|weight| *weight /= sum);
            }
            pixels.push((first, begin..exact.len()));
        }
        let largest = exact.iter().copied().fold(0.0, f64::max);
        let fits = |bits: &u32| 0.5 + largest * f64::from(1u32 << (bits + 1)) < 32768.0;
        let bits = (0..MOST_BITS).take_while(fits).count() as u32;
        let rounded = |weight: &f64| {
            let scaled = weight * f64::from(1u32 << bits);
            if *weight < 0.0 { (scaled - 0.5) as i16 } else { (scaled + 0.5) as i16 }
        };
        Self { pixels, weights: exact.iter().map(rounded).collect(), bits }
    }

    fn to_byte(&self, sum: i32) -> u8 {
        (sum >> self.bits).clamp(0, 255) as u8
    }

    /// A half, so that cutting off rounds.
    fn half(&self) -> i32 {
        if self.bits == 0 { 0 } else { 1 << (self.bits - 1) }
    }
}

/// Keys' cubic with a = -0.5, as antialiasing resizers have it.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn horizontally(rgb: &[u8], width: usize, weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgb.len() / width * weights.pixels.len());
    for row in rgb.chunks_exact(3 * width) {
        for (first, own) in &weights.pixels {
            let mut sums = [weights.half(); 3];
            for (pixel, &weight) in
                row[3 * first..].chunks_exact(3).zip(&weights.weights[own.clone()])
            {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(weight) * i32::from(value);
                }
            }
            out.extend(sums.map(|sum| weights.to_byte(sum)));
        }
    }
    out
}

fn vertically(rgb: &[u8], row: usize, weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(row * weights.pixels.len());
    let mut sums = vec![0i32; row];
    for (first, own) in &weights.pixels {
        sums.fill(weights.half());
        for (values, &weight) in
            rgb[first * row..].chunks_exact(row).zip(&weights.weights[own.clone()])
        {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(weight) * i32::from(value);
            }
        }
        out.extend(sums.iter().map(|&sum| weights.to_byte(sum)));
    }
    out
}
