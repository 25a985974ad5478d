//! Patches: what a tower reads of a picture.

use super::{Picture, smart_resize};
use crate::error::MediaError;

/// How pictures become patches. The defaults are Glm4v's.
///
/// Source: `preprocessor_config.json` and transformers' `Glm4vImageProcessor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchSettings {
    /// Pixels of a patch's side, `p`.
    pub patch: usize,
    /// Pictures of a patch, `T`: a still picture is repeated.
    pub temporal: usize,
    /// Patches of a side that become one row, `m`.
    pub merge: usize,
    /// Pixels at least, a still picture counted twice.
    pub min_pixels: usize,
    /// Pixels at most.
    pub max_pixels: usize,
    /// What is taken from each colour, of 0 to 1.
    pub mean: [f32; 3],
    /// By what it is divided.
    pub deviation: [f32; 3],
}

impl Default for PatchSettings {
    fn default() -> Self {
        Self {
            patch: 14,
            temporal: 2,
            merge: 2,
            min_pixels: 12_544,
            max_pixels: 11_760_000,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            deviation: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

/// A picture as a tower reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// Rows of patches.
    pub rows: usize,
    /// Patches of a row.
    pub columns: usize,
    /// `[rows columns, 3 T p p]`: the patches of each block of `m` x `m` together, the blocks from left to right and from the
    /// top; of each its colours, pictures, rows and columns.
    pub values: Vec<f32>,
}

impl PatchSettings {
    /// Rows and columns of patches that a picture becomes, without computing anything.
    ///
    /// # Errors
    /// As [`smart_resize`].
    pub fn grid(&self, height: usize, width: usize) -> Result<(usize, usize), MediaError> {
        let factor = self.patch * self.merge;
        let (h, w) = smart_resize(height, width, factor, self.min_pixels, self.max_pixels)?;
        Ok((h / self.patch, w / self.patch))
    }

    /// Values of a patch.
    pub fn width(&self) -> usize {
        3 * self.temporal * self.patch * self.patch
    }

    /// The patches of a picture.
    ///
    /// # Errors
    /// As [`smart_resize`].
    pub fn patches(&self, picture: &Picture) -> Result<Patches, MediaError> {
        let (rows, columns) = self.grid(picture.height(), picture.width())?;
        let (p, m) = (self.patch, self.merge);
        let resized = picture.resized(columns * p, rows * p);
        // Rescaling and normalizing in one, as torchvision's backend does it.
        let mean = self.mean.map(|mean| mean * 255.0);
        let deviation = self.deviation.map(|deviation| deviation * 255.0);
        let line = 3 * columns * p;
        let mut values = Vec::with_capacity(rows * columns * self.width());
        for row in (0..rows).step_by(m) {
            for column in (0..columns).step_by(m) {
                for i in 0..m * m {
                    let (y, x) = ((row + i / m) * p, (column + i % m) * p);
                    for colour in 0..3 {
                        let begin = values.len();
                        for y in y..y + p {
                            let pixels = &resized.rgb()[y * line + 3 * x..][..3 * p];
                            values.extend(pixels.iter().skip(colour).step_by(3).map(|&value| {
                                (f32::from(value) - mean[colour]) / deviation[colour]
                            }));
                        }
                        for _ in 1..self.temporal {
                            values.extend_from_within(begin..begin + p * p);
                        }
                    }
                }
            }
        }
        Ok(Patches { rows, columns, values })
    }
}
