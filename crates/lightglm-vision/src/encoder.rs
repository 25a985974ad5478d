//! `VisionEncoder`: a tower as the decoder's door wants it.

use std::ops::ControlFlow;

use burn::tensor::{Tensor, TensorData};
use lightglm_core::{Linear, MediaEncoder, MediaEncoderError, MediaInput, MediaKind, MediaLayout};
use lightglm_kernels::LmBackend;
use lightglm_media::{MediaError, PatchSettings, Picture};
use lightglm_model::checkpoint::{Checkpoint, CheckpointError};
use lightglm_model::config::{MediaConfig, PreprocessorConfig, VisionConfig};
use lightglm_model::decoder::{DenseLinear, DenseParts, LoadPrecision};

use crate::tower::VisionTower;
use crate::weights::tower_weights;

/// A tower with the settings by which pictures become patches.
#[derive(Debug)]
pub struct VisionEncoder<B: LmBackend, L: Linear<B>> {
    tower: VisionTower<B, L>,
    settings: PatchSettings,
    placeholder: u32,
    device: B::Device,
}

impl<B: LmBackend> VisionEncoder<B, DenseLinear<B>> {
    /// The tower of a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] where there is none, and where a file is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        precision: LoadPrecision,
        device: &B::Device,
    ) -> Result<Self, CheckpointError> {
        let (Some(MediaConfig::Vision(config)), Some(weights)) =
            (checkpoint.media_config(), checkpoint.media_weights())
        else {
            return Err(CheckpointError::NoEncoder { path: checkpoint.path().to_owned() });
        };
        let file = checkpoint.path();
        let weights = tower_weights(config, weights.clone(), file);
        let parts = DenseParts::unchecked(&weights, file, precision)?;
        let tower = VisionTower::from_parts(config, &parts, device)?;
        Ok(Self::new(tower, config, &checkpoint.preprocessor_config()?, device))
    }
}

impl<B: LmBackend, L: Linear<B>> VisionEncoder<B, L> {
    /// A tower of `config`.
    pub fn new(
        tower: VisionTower<B, L>,
        config: &VisionConfig,
        preprocessor: &PreprocessorConfig,
        device: &B::Device,
    ) -> Self {
        let default = PatchSettings::default();
        let settings = PatchSettings {
            patch: config.patch_size,
            temporal: config.temporal_patch_size,
            merge: config.spatial_merge_size,
            min_pixels: preprocessor.min_pixels.unwrap_or(default.min_pixels),
            max_pixels: preprocessor.max_pixels.unwrap_or(default.max_pixels),
            mean: preprocessor.image_mean.unwrap_or(default.mean),
            deviation: preprocessor.image_std.unwrap_or(default.deviation),
        };
        Self { tower, settings, placeholder: config.image_token_id, device: device.clone() }
    }

    /// The tower.
    pub fn tower(&self) -> &VisionTower<B, L> {
        &self.tower
    }

    /// How pictures become patches.
    pub fn settings(&self) -> &PatchSettings {
        &self.settings
    }
}

fn fault(error: &MediaError) -> MediaEncoderError {
    MediaEncoderError::Content { code: error.code(), reason: error.to_string() }
}

impl<B: LmBackend, L: Linear<B> + Send + Sync> MediaEncoder for VisionEncoder<B, L> {
    fn kind(&self) -> MediaKind {
        MediaKind::Picture
    }

    fn layout(&self, input: &MediaInput<'_>) -> Result<MediaLayout, MediaEncoderError> {
        let MediaInput::Picture { height, width, .. } = *input else {
            return Err(MediaEncoderError::Kind { kind: input.kind() });
        };
        let (rows, columns) = self.settings.grid(height, width).map_err(|error| fault(&error))?;
        let merge = self.settings.merge;
        Ok(MediaLayout::grid([1, (rows / merge) as u32, (columns / merge) as u32]))
    }

    fn encode(
        &self,
        input: &MediaInput<'_>,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, MediaEncoderError> {
        let MediaInput::Picture { height, width, rgb } = *input else {
            return Err(MediaEncoderError::Kind { kind: input.kind() });
        };
        let picture = Picture::new(width, height, rgb.to_vec());
        let patches = picture.and_then(|picture| self.settings.patches(&picture));
        let patches = patches.map_err(|error| fault(&error))?;
        let grid = (patches.rows, patches.columns);
        let shape = [grid.0 * grid.1, self.settings.width()];
        let patches = Tensor::from_data(TensorData::new(patches.values, shape), &self.device);
        let rows = self.tower.forward(patches, grid, between);
        let rows = rows.ok_or(MediaEncoderError::Interrupted)?.into_data().convert::<f32>();
        Ok(rows.into_vec().unwrap_or_default())
    }

    fn placeholder(&self) -> u32 {
        self.placeholder
    }
}
