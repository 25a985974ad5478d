//! The encoder by classification, then the decoder on its rows.
//!
//! An encoder and a decoder that begin together learn little of each other for a long time; an encoder that tells the digits apart
//! already gives rows that a decoder learns to read within a few hundred steps.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm::{Message, Pcm};
use lightglm_core::{Activations, GradientSums, LabelledSpan, Linear, MediaLayout, TrainableLm};
use lightglm_generation::media::{MediaContent, place_media};
use lightglm_kernels::LmBackend;
use lightglm_media::LogMel;
use lightglm_model::config::MediaConfig;
use lightglm_model::decoder::{DenseGlm, DenseLinear, DenseParts, LoadPrecision};
use lightglm_speech::{DenseSpeechTower, SpeechTower, speech_weights};
use lightglm_text::ChatText;
use lightglm_tiny::corpus::Random;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::optimizer::{AdamW, AdamWConfig};
use rayon::prelude::*;
use serde_json::json;

use super::data::{Recording, WORDS};
use super::model;

type Learning = Autodiff<Flex>;

/// What the model is asked.
pub const QUESTION: &str = "Which digit?";

/// Rates of speaking that each recording is heard at: small ones are lower voices that speak slower.
const SPEEDS: [f64; 7] = [0.8, 0.87, 0.93, 1.0, 1.07, 1.14, 1.22];
/// Of these, as it was recorded.
const PLAIN: usize = 3;

/// How much is learnt.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Steps of the encoder.
    pub encoder_steps: usize,
    /// And of the decoder.
    pub decoder_steps: usize,
    /// Recordings of a step.
    pub batch: usize,
    /// Of everything random.
    pub seed: u64,
}

/// Tells how a stage goes: its name, steps done, steps in all, the mean loss lately. It may break off.
pub type Watch<'a> = &'a mut dyn FnMut(&str, usize, usize, f64) -> ControlFlow<()>;

/// The encoder with a head that tells digits apart.
#[derive(Module, Debug)]
struct Classifier<B: Backend> {
    tower: DenseSpeechTower<B>,
    head: DenseLinear<B>,
}

/// The spectra of recordings, one second each, at each of the speeds.
struct Spectra {
    mels: usize,
    frames: usize,
    /// By recording, then by speed: `[mels, frames]`.
    values: Vec<Vec<Vec<f32>>>,
}

impl Spectra {
    fn new(recordings: &[&Recording], mels: usize, seconds: usize, speeds: &[f64]) -> Self {
        let samples = seconds * LogMel::RATE as usize;
        let of = |recording: &&Recording| {
            let mel = LogMel::new(mels);
            let at = |&speed: &f64| {
                let rate = (f64::from(recording.sound.rate()) * speed) as u32;
                let sound = Pcm::new(recording.sound.samples().to_vec(), rate);
                let sound = sound.and_then(|sound| sound.resampled(LogMel::RATE));
                let mut heard = sound.map(Pcm::into_samples).unwrap_or_default();
                heard.truncate(samples);
                mel.padded(&heard, samples)
            };
            speeds.iter().map(at).collect()
        };
        let frames = LogMel::new(mels).frames(samples);
        Self { mels, frames, values: recordings.par_iter().map(of).collect() }
    }

    /// A recording as it might have been: at another speed, earlier or later, its bands moved by two at most, and a stretch of bands and one
    /// of frames blotted out.
    fn varied(&self, index: usize, random: &mut Random) -> Vec<f32> {
        let spectrum = &self.values[index][random.below(SPEEDS.len())];
        let (shift, bands) = (random.below(25) as i64 - 5, random.below(5) as i64 - 2);
        let gain = random.below(41) as f32 / 100.0 - 0.2;
        let silence = spectrum.iter().copied().fold(f32::MAX, f32::min);
        let blot = |random: &mut Random, most: usize, of: usize| {
            let length = random.below(most + 1);
            let first = random.below(of);
            first..first + length
        };
        let (no_bands, no_frames) = (blot(random, 6, self.mels), blot(random, 16, self.frames));
        let mut varied = Vec::with_capacity(spectrum.len());
        for band in 0..self.mels {
            for frame in 0..self.frames {
                let (b, f) = (band as i64 - bands, frame as i64 - shift);
                let inside =
                    (0..self.mels as i64).contains(&b) && (0..self.frames as i64).contains(&f);
                let blotted = no_bands.contains(&band) || no_frames.contains(&frame);
                let value = match inside && !blotted {
                    true => spectrum[b as usize * self.frames + f as usize] + gain,
                    false => silence,
                };
                varied.push(value.max(silence));
            }
        }
        varied
    }
}

/// Trains the model in `folder` on `recordings` and writes it back.
///
/// # Errors
/// Where the folder is none of [`model::start`]'s, cannot be written, or `watch` breaks off.
pub fn train(
    folder: &Path,
    recordings: &[&Recording],
    effort: Effort,
    watch: Watch<'_>,
) -> Result<()> {
    let (_, audio) = model::configs(folder)?;
    let checkpoint = model::open(folder)?;
    let seconds = checkpoint.preprocessor_config()?.chunk_length.unwrap_or(1);
    let spectra = Spectra::new(recordings, audio.num_mel_bins, seconds, &SPEEDS);
    let file = checkpoint.media_weights().context("an encoder")?;
    let weights = speech_weights(&audio, file.clone(), folder);
    let parts = DenseParts::unchecked(&weights, folder, LoadPrecision::Stored)?;
    let tower = SpeechTower::from_parts(&audio, &parts, &FlexDevice)?;
    let tower = encoder(tower, audio.out_hidden_size, recordings, &spectra, effort, watch)?;
    let decoder = decoder(&checkpoint, &tower, recordings, &spectra, effort, watch)?;
    drop(checkpoint);
    model::write(folder, tower.tensors(&audio), &decoder.weights())
}

/// Stage one: the mean of a recording's rows tells its digit.
fn encoder(
    tower: DenseSpeechTower<Learning>,
    width: usize,
    recordings: &[&Recording],
    spectra: &Spectra,
    effort: Effort,
    watch: Watch<'_>,
) -> Result<DenseSpeechTower<Learning>> {
    let mut random = Random::new(effort.seed);
    let head = (0..10 * width).map(|_| (random.below(2001) as f32 - 1000.0) * 1e-4).collect();
    let head = Tensor::from_data(TensorData::new::<f32, _>(head, [10, width]), &FlexDevice);
    let head = DenseLinear { weight: Param::from_tensor(head), bias: None };
    let mut model = Classifier { tower, head };
    let config = AdamWConfig { weight_decay: 0.05, ..AdamWConfig::default() };
    let (mut optimizer, mut lately) = (AdamW::<Learning>::new(config), f64::NAN);
    for step in 0..effort.encoder_steps {
        let (mut pooled, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..effort.batch {
            let index = random.below(recordings.len());
            let spectrum = spectra.varied(index, &mut random);
            let rows =
                model.tower.forward(&spectrum, &FlexDevice, &mut || ControlFlow::Continue(()));
            pooled.push(rows.context("nobody breaks off")?.mean_dim(0));
            targets.push(recordings[index].digit as u32);
        }
        let logits = model.head.forward(Tensor::cat(pooled, 0));
        let loss = Learning::cross_entropy(logits, &targets).mean();
        let value = f64::from(loss.clone().into_scalar());
        let mut gradients = loss.backward();
        let mut sums = GradientSums::new();
        sums.collect(&model, &mut gradients);
        model = optimizer.step(model, sums, rate(step, effort.encoder_steps, 2e-3), 1.0);
        lately = if lately.is_nan() { value } else { 0.98 * lately + 0.02 * value };
        if watch("encoder", step + 1, effort.encoder_steps, lately).is_break() {
            bail!("interrupted");
        }
    }
    Ok(model.tower)
}

/// Stage two: the encoder is frozen, its rows are computed once, and the decoder learns to say what they are.
fn decoder(
    checkpoint: &lightglm_model::checkpoint::Checkpoint,
    tower: &DenseSpeechTower<Learning>,
    recordings: &[&Recording],
    spectra: &Spectra,
    effort: Effort,
    watch: Watch<'_>,
) -> Result<DenseGlm<Learning>> {
    let text = checkpoint.text()?;
    let content = json!([{"type": "audio"}, {"type": "text", "text": QUESTION}]);
    let prompt = text.encode_chat(&[Message::new("user", content)], &[])?;
    let id = checkpoint.config().vocab_size as u32;
    let Some(MediaConfig::Audio(audio)) = checkpoint.media_config() else {
        bail!("{}: not a model that hears", checkpoint.path().display());
    };
    let placeholder = audio.audio_token_id;
    let end = *text.eos_token_ids().last().context("an end")?;
    let answers = WORDS.map(|word| text.encode(word));
    // Without gradients: a graph that nobody walks back would only grow.
    let tower = tower.valid();
    let rows = |index: usize, speed: usize| -> Result<Arc<[f32]>> {
        let spectrum = &spectra.values[index][speed];
        let rows = tower.forward(spectrum, &FlexDevice, &mut || ControlFlow::Continue(()));
        let rows = rows.context("nobody breaks off")?.into_data().into_vec::<f32>();
        Ok(rows.map_err(|error| anyhow::anyhow!("{error:?}"))?.into())
    };
    // Short recordings have fewer rows: whatever their number, silence behind is left out when the model is asked.
    let (hop, merged) = (LogMel::HOP, audio.merged_frames());
    let rows_of = |recording: &Recording, speed: usize| {
        let seconds = recording.sound.seconds() / SPEEDS[speed];
        let frames =
            ((seconds * f64::from(LogMel::RATE)) as usize).div_ceil(hop).min(spectra.frames);
        (frames.div_ceil(2) / merged).max(1)
    };
    let mut examples = Vec::new();
    for (index, recording) in recordings.iter().enumerate() {
        for speed in [PLAIN - 1, PLAIN, PLAIN + 1] {
            let all = rows(index, speed)?;
            let count = rows_of(recording, speed);
            let width = checkpoint.config().hidden_size;
            let layout = MediaLayout::sequence(count);
            let content = MediaContent { epoch: 0, id, layout, rows: all[..count * width].into() };
            let (mut tokens, media) = place_media(&prompt, placeholder, &[content])?;
            let answer =
                answers[recording.digit].as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
            let mut targets = vec![None; tokens.len() - 1];
            for &token in answer.iter().chain([&end]) {
                targets.push(Some(token));
                tokens.push(token);
            }
            tokens.pop();
            examples.push((tokens, targets, media));
        }
    }
    let mut model: DenseGlm<Learning> = checkpoint.load(LoadPrecision::Stored, &FlexDevice)?;
    let mut random = Random::new(effort.seed ^ 1);
    let (mut optimizer, mut lately) = (AdamW::<Learning>::new(AdamWConfig::default()), f64::NAN);
    for step in 0..effort.decoder_steps {
        let chosen: Vec<usize> = (0..effort.batch).map(|_| random.below(examples.len())).collect();
        let parts: Vec<_> =
            chosen.iter().map(|&i| examples[i].2.part(0..examples[i].0.len())).collect();
        let spans: Vec<LabelledSpan<'_>> = chosen
            .iter()
            .zip(&parts)
            .map(|(&i, part)| LabelledSpan {
                media: part.media(),
                positions: part.positions(),
                ..LabelledSpan::text(&examples[i].0, &examples[i].1)
            })
            .collect();
        let labels: usize = spans.iter().map(LabelledSpan::labels).sum();
        let mut sums = GradientSums::new();
        let loss = model.differentiate(&spans, &CrossEntropy, Activations::Keep, &mut sums)?;
        let scale = 1.0 / labels.max(1) as f64;
        model = optimizer.step(model, sums, rate(step, effort.decoder_steps, 2e-3), scale);
        let value = loss * scale;
        lately = if lately.is_nan() { value } else { 0.95 * lately + 0.05 * value };
        if watch("decoder", step + 1, effort.decoder_steps, lately).is_break() {
            bail!("interrupted");
        }
    }
    Ok(model)
}

/// A short warm-up, then a cosine to nothing.
fn rate(step: usize, steps: usize, most: f64) -> f64 {
    let warm = (steps / 20).max(1);
    let factor = match step < warm {
        true => (step + 1) as f64 / warm as f64,
        false => {
            let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
            0.5 * (1.0 + (done * std::f64::consts::PI).cos())
        }
    };
    most * factor.max(0.01)
}
