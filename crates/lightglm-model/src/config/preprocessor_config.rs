//! `PreprocessorConfig`: how pictures and recordings are made ready for an encoder.
//!
//! Source: transformers 5.23.0, `image_processing_glm4v.py`, `feature_extraction_whisper.py` (names and defaults).

use std::path::Path;

use serde_json::Value;

use super::ConfigError;
use super::fields::{Fields, read_json};

/// What `preprocessor_config.json` says; each key is `None` where it is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreprocessorConfig {
    /// Pixels of a picture at least, a still one counted twice: `size.shortest_edge`, or `min_pixels`.
    pub min_pixels: Option<usize>,
    /// Pixels at most: `size.longest_edge`, or `max_pixels`.
    pub max_pixels: Option<usize>,
    /// What is taken from each colour.
    pub image_mean: Option<[f32; 3]>,
    /// By what it is divided.
    pub image_std: Option<[f32; 3]>,
    /// Seconds of a window of speech.
    pub chunk_length: Option<usize>,
}

impl PreprocessorConfig {
    /// The settings of a folder: those of its `preprocessor_config.json`, of the image or audio part of its
    /// `processor_config.json`, or none.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and the key.
    pub fn from_dir(folder: &Path) -> Result<Self, ConfigError> {
        let file = folder.join("preprocessor_config.json");
        if file.exists() {
            let value = read_json(&file)?;
            return Self::parse(Fields::root(&file, &value)?);
        }
        let file = folder.join("processor_config.json");
        if !file.exists() {
            return Ok(Self::default());
        }
        let value = read_json(&file)?;
        let root = Fields::root(&file, &value)?;
        for key in ["image_processor", "feature_extractor"] {
            if let Some(part) = root.object(key)? {
                return Self::parse(part);
            }
        }
        Ok(Self::default())
    }

    fn parse(root: Fields<'_>) -> Result<Self, ConfigError> {
        let count = |fields: Fields<'_>, key: &str| match fields.value(key) {
            Some(_) => fields.size(key, 0).map(Some),
            None => Ok(None),
        };
        let size = root.object("size")?;
        let edge = |edge: &str, old: &str| match size {
            Some(size) if size.value(edge).is_some() => count(size, edge),
            _ => count(root, old),
        };
        let config = Self {
            min_pixels: edge("shortest_edge", "min_pixels")?,
            max_pixels: edge("longest_edge", "max_pixels")?,
            image_mean: colours(root, "image_mean")?,
            image_std: colours(root, "image_std")?,
            chunk_length: count(root, "chunk_length")?,
        };
        if config.image_std.is_some_and(|std| std.contains(&0.0)) {
            let (key, reason) = (root.path("image_std"), "must not be zero");
            return Err(ConfigError::impossible(root.file(), key, 0, reason));
        }
        if let Some(seconds) = config.chunk_length.filter(|seconds| !(1..=3600).contains(seconds)) {
            let (key, reason) = (root.path("chunk_length"), "must be from 1 to 3600");
            return Err(ConfigError::impossible(root.file(), key, seconds, reason));
        }
        Ok(config)
    }
}

fn colours(root: Fields<'_>, key: &str) -> Result<Option<[f32; 3]>, ConfigError> {
    let Some(value) = root.value(key) else { return Ok(None) };
    let number = |value: &Value| value.as_f64().map(|value| value as f32);
    let values = value.as_array().map(|values| values.iter().map(number).collect());
    let values: Option<Vec<f32>> = values.flatten();
    match values.and_then(|values| <[f32; 3]>::try_from(values).ok()) {
        Some(values) if values.iter().all(|value| value.is_finite()) => Ok(Some(values)),
        _ => Err(root.wrong_type(key, "three finite numbers", value)),
    }
}
