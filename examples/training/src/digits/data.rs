//! The recordings of the Free Spoken Digit Dataset, from a folder or an archive.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lightglm::{MediaLimits, Pcm};
use rayon::prelude::*;

/// What is said.
pub const WORDS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// 0 to 9.
    pub digit: usize,
    /// Who says it.
    pub speaker: String,
    /// Which time: 0 to 4 are the official test.
    pub take: usize,
    /// What is heard.
    pub sound: Pcm,
}

/// Reads a folder of `7_jackson_32.wav`, or an archive of such files (`.tar.zst`).
///
/// # Errors
/// Where a file cannot be read, or is named otherwise.
pub fn read(path: &Path) -> Result<Vec<Recording>> {
    let named = || path.display().to_string();
    let mut files: Vec<(String, Vec<u8>)> = if path.is_dir() {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).with_context(named)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "wav") {
                let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.push((name, bytes));
            }
        }
        files
    } else {
        let file = std::fs::File::open(path).with_context(named)?;
        let decoder = ruzstd::decoding::StreamingDecoder::new(std::io::BufReader::new(file));
        let mut archive =
            tar::Archive::new(decoder.map_err(|error| anyhow::anyhow!("{}: {error}", named()))?);
        let mut files = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry.with_context(named)?;
            let name = entry.path()?.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".wav") {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).with_context(named)?;
                files.push((name, bytes));
            }
        }
        files
    };
    ensure!(!files.is_empty(), "{}: no recordings", named());
    files.sort();
    files.par_iter().map(|(name, bytes)| recording(name, bytes)).collect()
}

fn recording(name: &str, bytes: &[u8]) -> Result<Recording> {
    let parts: Vec<&str> = name.trim_end_matches(".wav").split('_').collect();
    let [digit, speaker, take] = parts[..] else { bail!("{name}: not DIGIT_SPEAKER_TAKE.wav") };
    let digit: usize = digit.parse().with_context(|| name.to_owned())?;
    ensure!(digit < 10, "{name}: {digit} is no digit");
    let sound = Pcm::decode(bytes, &MediaLimits::default()).with_context(|| name.to_owned())?;
    let take = take.parse().with_context(|| name.to_owned())?;
    Ok(Recording { digit, speaker: speaker.to_owned(), take, sound })
}

/// How the recordings are shared out.
#[derive(Clone, Debug)]
pub enum Split {
    /// The first five takes of each are the test: everybody in it was heard before.
    Official,
    /// All of one speaker are.
    Speaker(String),
}

impl Split {
    /// Whether a recording is of the test.
    pub fn is_test(&self, recording: &Recording) -> bool {
        match self {
            Self::Official => recording.take < 5,
            Self::Speaker(speaker) => recording.speaker == *speaker,
        }
    }

    /// Its name: `official`, or the speaker's.
    pub fn name(&self) -> &str {
        match self {
            Self::Official => "official",
            Self::Speaker(speaker) => speaker,
        }
    }
}

/// All speakers.
pub fn speakers(recordings: &[Recording]) -> Vec<String> {
    let mut speakers: Vec<String> = recordings.iter().map(|r| r.speaker.clone()).collect();
    speakers.sort();
    speakers.dedup();
    speakers
}
