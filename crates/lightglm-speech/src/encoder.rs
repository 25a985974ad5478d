//! `SpeechEncoder`: an encoder as the decoder's door wants it.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use lightglm_core::{Linear, MediaEncoder, MediaEncoderError, MediaInput, MediaKind, MediaLayout};
use lightglm_kernels::LmBackend;
use lightglm_media::{LogMel, MediaError, Pcm};
use lightglm_model::checkpoint::{Checkpoint, CheckpointError};
use lightglm_model::config::{AudioConfig, MediaConfig, PreprocessorConfig};
use lightglm_model::decoder::{DenseLinear, DenseParts, LoadPrecision};

use crate::tower::SpeechTower;
use crate::weights::speech_weights;

/// Seconds of a window where the files do not say.
const WINDOW_SECONDS: usize = 30;

/// An encoder with the settings by which recordings become spectra.
///
/// A recording is cut into windows, each of which is filled up with silence and encoded by itself; rows of silence that
/// fills up are left out.
#[derive(Debug)]
pub struct SpeechEncoder<B: LmBackend, L: Linear<B>> {
    tower: SpeechTower<B, L>,
    mel: LogMel,
    /// Samples of a window.
    window: usize,
    /// Frames of the encoder that become one row.
    merged: usize,
    hidden_size: usize,
    placeholder: u32,
    device: B::Device,
}

impl<B: LmBackend> SpeechEncoder<B, DenseLinear<B>> {
    /// The encoder of a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] where there is none, and where a file is at fault.
    pub fn load(
        checkpoint: &Checkpoint,
        precision: LoadPrecision,
        device: &B::Device,
    ) -> Result<Self, CheckpointError> {
        let (Some(MediaConfig::Audio(config)), Some(weights)) =
            (checkpoint.media_config(), checkpoint.media_weights())
        else {
            return Err(CheckpointError::NoEncoder { path: checkpoint.path().to_owned() });
        };
        let file = checkpoint.path();
        let weights = speech_weights(config, weights.clone(), file);
        let parts = DenseParts::unchecked(&weights, file, precision)?;
        let tower = SpeechTower::from_parts(config, &parts, device)?;
        Ok(Self::new(tower, config, &checkpoint.preprocessor_config()?, device))
    }
}

impl<B: LmBackend, L: Linear<B>> SpeechEncoder<B, L> {
    /// An encoder of `config`.
    pub fn new(
        tower: SpeechTower<B, L>,
        config: &AudioConfig,
        preprocessor: &PreprocessorConfig,
        device: &B::Device,
    ) -> Self {
        let seconds = preprocessor.chunk_length.unwrap_or(WINDOW_SECONDS);
        Self {
            tower,
            mel: LogMel::new(config.num_mel_bins),
            window: seconds * LogMel::RATE as usize,
            merged: config.merged_frames(),
            hidden_size: config.out_hidden_size,
            placeholder: config.audio_token_id,
            device: device.clone(),
        }
    }

    /// The encoder.
    pub fn tower(&self) -> &SpeechTower<B, L> {
        &self.tower
    }

    /// Rows of a window of so many samples, at most a whole window.
    ///
    /// Source: transformers 5.23.0, `processing_glmasr.py`, `_get_audio_token_length`: frames of the spectrum that begin in
    /// the recording, of the first convolution as many, of the second half of them, whole groups of these.
    fn rows(&self, samples: usize) -> usize {
        let frames = samples.div_ceil(LogMel::HOP).min(self.mel.frames(self.window));
        frames.div_ceil(2) / self.merged
    }

    /// The recording at the encoder's rate.
    fn recording(input: &MediaInput<'_>) -> Result<Pcm, MediaEncoderError> {
        let MediaInput::Sound { samples, rate } = *input else {
            return Err(MediaEncoderError::Kind { kind: input.kind() });
        };
        let pcm = Pcm::new(samples.to_vec(), rate).map_err(|error| fault(&error))?;
        pcm.resampled(LogMel::RATE).map_err(|error| fault(&error))
    }
}

fn fault(error: &MediaError) -> MediaEncoderError {
    MediaEncoderError::Content { code: error.code(), reason: error.to_string() }
}

impl<B: LmBackend, L: Linear<B> + Send + Sync> MediaEncoder for SpeechEncoder<B, L> {
    fn kind(&self) -> MediaKind {
        MediaKind::Sound
    }

    fn layout(&self, input: &MediaInput<'_>) -> Result<MediaLayout, MediaEncoderError> {
        let MediaInput::Sound { samples, rate } = *input else {
            return Err(MediaEncoderError::Kind { kind: input.kind() });
        };
        let length = Pcm::resampled_len(samples.len(), rate, LogMel::RATE);
        let whole = length / self.window;
        let rows = whole * self.rows(self.window) + self.rows(length % self.window);
        match rows {
            0 => Err(MediaEncoderError::Content {
                code: "recording_too_short",
                reason: "the recording is too short to be heard".to_owned(),
            }),
            rows => Ok(MediaLayout::sequence(rows)),
        }
    }

    fn encode(
        &self,
        input: &MediaInput<'_>,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, MediaEncoderError> {
        let layout = self.layout(input)?;
        let recording = Self::recording(input)?;
        let mut rows = Vec::with_capacity(layout.rows * self.hidden_size);
        for window in recording.samples().chunks(self.window) {
            let wanted = self.rows(window.len()) * self.hidden_size;
            if wanted == 0 {
                continue;
            }
            let spectrum = self.mel.padded(window, self.window);
            let encoded = self.tower.forward(&spectrum, &self.device, between);
            let encoded: Tensor<B, 2> = encoded.ok_or(MediaEncoderError::Interrupted)?;
            let encoded = encoded.into_data().convert::<f32>().into_vec::<f32>();
            let encoded = encoded.unwrap_or_default();
            rows.extend(encoded.into_iter().take(wanted));
        }
        Ok(rows)
    }

    fn placeholder(&self) -> u32 {
        self.placeholder
    }
}
