//! Encoders in front of the decoder: loaded, and asked for the rows of what a conversation has in it.

use std::ops::ControlFlow;
use std::sync::Arc;

use lightglm_core::{MediaEncoder, MediaRuns};
use lightglm_generation::media::{MediaContent, MediaStore, place_media};
use lightglm_kernels::LmGradients;
use lightglm_model::checkpoint::Checkpoint;

use super::Model;
use super::load_options::LoadOptions;
use super::turn::Medium;
use crate::device::{DeviceJob, run_on};
use crate::error::Error;

/// Bytes of rows that a model keeps of what it has seen and heard.
pub(crate) const KEPT_BYTES: usize = 256 << 20;

/// The encoder of a checkpoint with its ids and rows; `None` for a model of text, and without the feature that it
/// takes.
pub(super) fn store(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
) -> Result<Option<Arc<MediaStore>>, Error> {
    if checkpoint.media_config().is_none() {
        return Ok(None);
    }
    let encoder = run_on(options.device, Load { checkpoint, options })??;
    let vocab_size = checkpoint.config().vocab_size;
    Ok(encoder.map(|encoder| Arc::new(MediaStore::new(encoder, vocab_size, KEPT_BYTES))))
}

/// Refuses what would write the decoder of `checkpoint` without its encoder.
///
/// # Errors
/// [`Error::WithEncoder`].
pub(crate) fn refuse_encoder(checkpoint: &Checkpoint, doing: &'static str) -> Result<(), Error> {
    match checkpoint.media_config() {
        None => Ok(()),
        Some(_) => Err(Error::WithEncoder { file: checkpoint.path().to_owned(), doing }),
    }
}

#[cfg_attr(not(any(feature = "vision", feature = "speech")), expect(dead_code))]
struct Load<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a LoadOptions,
}

impl DeviceJob for Load<'_> {
    type Output = Result<Option<Arc<dyn MediaEncoder>>, Error>;

    #[cfg(not(any(feature = "vision", feature = "speech")))]
    fn run<B: LmGradients>(self, _: B::Device) -> Self::Output {
        Ok(None)
    }

    #[cfg(any(feature = "vision", feature = "speech"))]
    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output {
        use lightglm_model::config::MediaConfig;

        let Self { checkpoint, options } = self;
        let (Some(config), Some(weights)) = (checkpoint.media_config(), checkpoint.media_weights())
        else {
            return Ok(None);
        };
        match config {
            #[cfg(feature = "vision")]
            MediaConfig::Vision(config) => {
                use lightglm_vision::{VisionEncoder, VisionTower, tower_weights};

                let weights = tower_weights(config, weights.clone(), checkpoint.path());
                let settings = checkpoint.preprocessor_config()?;
                Ok(Some(match parts(&weights, checkpoint, options)? {
                    Parts::Dense(parts) => {
                        let tower = VisionTower::from_parts(config, &parts, &device)?;
                        Arc::new(VisionEncoder::<B, _>::new(tower, config, &settings, &device))
                    }
                    Parts::Int8 { policy, file } => {
                        let parts =
                            lightglm_quant::CheckpointQuantizer::new(&weights, file, &policy);
                        let tower = VisionTower::from_parts(config, &parts, &device)?;
                        Arc::new(VisionEncoder::<B, _>::new(tower, config, &settings, &device))
                    }
                }))
            }
            #[cfg(feature = "speech")]
            MediaConfig::Audio(config) => {
                use lightglm_speech::{SpeechEncoder, SpeechTower, speech_weights};

                let weights = speech_weights(config, weights.clone(), checkpoint.path());
                let settings = checkpoint.preprocessor_config()?;
                Ok(Some(match parts(&weights, checkpoint, options)? {
                    Parts::Dense(parts) => {
                        let tower = SpeechTower::from_parts(config, &parts, &device)?;
                        Arc::new(SpeechEncoder::<B, _>::new(tower, config, &settings, &device))
                    }
                    Parts::Int8 { policy, file } => {
                        let parts =
                            lightglm_quant::CheckpointQuantizer::new(&weights, file, &policy);
                        let tower = SpeechTower::from_parts(config, &parts, &device)?;
                        Arc::new(SpeechEncoder::<B, _>::new(tower, config, &settings, &device))
                    }
                }))
            }
            #[cfg(not(all(feature = "vision", feature = "speech")))]
            _ => Ok(None),
        }
    }
}

/// How an encoder's projections are made.
#[cfg(any(feature = "vision", feature = "speech"))]
enum Parts<'a> {
    Dense(lightglm_model::decoder::DenseParts<'a>),
    Int8 { policy: lightglm_quant::Policy, file: &'a std::path::Path },
}

/// As `options` say of the decoder; quantized, an encoder is held in INT8 whatever they say of the decoder: it is small
/// beside it, and what it loses every row has lost.
#[cfg(any(feature = "vision", feature = "speech"))]
fn parts<'a>(
    weights: &'a dyn lightglm_core::WeightSource,
    checkpoint: &'a Checkpoint,
    options: &LoadOptions,
) -> Result<Parts<'a>, Error> {
    use lightglm_model::decoder::{DenseParts, LoadPrecision};
    use lightglm_quant::{Policy, Scheme};

    use super::load_options::Weights;

    let file = checkpoint.path();
    let dense = |precision| Ok(Parts::Dense(DenseParts::unchecked(weights, file, precision)?));
    match &options.weights {
        Weights::Stored => dense(LoadPrecision::Stored),
        Weights::Dtype(dtype) => dense(LoadPrecision::Convert(*dtype)),
        Weights::Policy(_) => {
            let policy = Policy::uniform("int8".parse::<Scheme>()?);
            Ok(Parts::Int8 { policy, file })
        }
    }
}

impl Model {
    /// The encoder of a model that sees or hears, with what it has encoded.
    pub fn media(&self) -> Option<&Arc<MediaStore>> {
        self.inner.media.as_ref()
    }

    /// Puts `media` in their places of `prompt`: its tokens, the runs, and what the contents are.
    ///
    /// # Errors
    /// [`Error::NoMedia`], [`Error::Media`] and [`Error::MediaPlaces`].
    pub(crate) fn placed(
        &self,
        prompt: Vec<u32>,
        media: &[Arc<Medium>],
    ) -> Result<(Vec<u32>, MediaRuns, Vec<MediaContent>), Error> {
        let Some(store) = self.media() else {
            return match media.first() {
                None => Ok((prompt, MediaRuns::default(), Vec::new())),
                Some(medium) => Err(Error::NoMedia { kind: medium.input().kind() }),
            };
        };
        let inputs: Vec<_> = media.iter().map(|medium| medium.input()).collect();
        let contents = store.contents(&inputs, &mut || ControlFlow::Continue(()))?;
        let (tokens, runs) = place_media(&prompt, store.encoder().placeholder(), &contents)?;
        Ok((tokens, runs, contents))
    }
}
