//! What is right without any training: the digit of the recording that is nearest.

use lightglm_media::LogMel;
use rayon::prelude::*;

use super::data::{Recording, Split};

/// Frames and bands that a recording is shrunk to.
const FRAMES: usize = 16;
const BANDS: usize = 40;

/// Recordings of the test that have the digit of their nearest neighbour in the training set, by the spectrum shrunk to 16 x 40,
/// its mean taken away and its length made 1; and how many there are.
pub fn nearest(recordings: &[Recording], split: &Split) -> (usize, usize) {
    let vectors: Vec<Vec<f32>> = recordings.par_iter().map(vector).collect();
    let (test, train): (Vec<usize>, Vec<usize>) =
        (0..recordings.len()).partition(|&i| split.is_test(&recordings[i]));
    let is_right = |&i: &usize| {
        let similarity =
            |&j: &usize| -> f32 { vectors[i].iter().zip(&vectors[j]).map(|(a, b)| a * b).sum() };
        let best = train.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        best.is_some_and(|best| recordings[best].digit == recordings[i].digit)
    };
    (test.par_iter().filter(|i| is_right(i)).count(), test.len())
}

fn vector(recording: &Recording) -> Vec<f32> {
    let sound = recording.sound.resampled(LogMel::RATE);
    let samples = sound.map(lightglm::Pcm::into_samples).unwrap_or_default();
    let mel = LogMel::new(BANDS);
    let spectrum = mel.padded(&samples, LogMel::HOP * FRAMES);
    let frames = spectrum.len() / BANDS;
    let mut vector = Vec::with_capacity(FRAMES * BANDS);
    for band in spectrum.chunks_exact(frames) {
        for frame in 0..FRAMES {
            let range = frame * frames / FRAMES
                ..((frame + 1) * frames / FRAMES).max(frame * frames / FRAMES + 1);
            let count = range.len() as f32;
            vector.push(band[range].iter().sum::<f32>() / count);
        }
    }
    let mean = vector.iter().sum::<f32>() / vector.len() as f32;
    vector.iter_mut().for_each(|x| *x -= mean);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}
