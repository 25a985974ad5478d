//! Scores in a file: a line as soon as there is one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use lightglm_core::LabelledSpan;
use lightglm_distill::{text_hash, weights_hash};
use lightglm_model::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use super::super::PruneError;
use super::options::{BlockChoice, SearchOptions};
use super::teacher_on_text::windows;
use crate::error::Error;
use crate::new_folder::at;

/// What was replaced, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Replaced {
    /// The block; none for the tables.
    layer: Option<usize>,
    /// A scheme with every choice named, or `dropped`.
    choice: String,
    /// Feed-forward neurons that were left, where the block was.
    intermediate_size: Option<usize>,
}

impl Replaced {
    /// Block `layer`, at a width.
    pub(super) fn block(layer: usize, choice: BlockChoice, intermediate_size: usize) -> Self {
        let (choice, intermediate_size) = match choice {
            BlockChoice::Kept(scheme) => (scheme.spelled_out(), Some(intermediate_size)),
            BlockChoice::Dropped => (choice.to_string(), None),
        };
        Self { layer: Some(layer), choice, intermediate_size }
    }

    /// The tables in a scheme.
    pub(super) fn tables(scheme: lightglm_quant::Scheme) -> Self {
        Self { layer: None, choice: scheme.spelled_out(), intermediate_size: None }
    }
}

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    teacher: String,
    text: String,
    #[serde(flatten)]
    replaced: Replaced,
    kl: f64,
}

/// The scores of one teacher on one text; the file may have those of others.
#[derive(Debug)]
pub(super) struct ScoreFile {
    path: PathBuf,
    file: File,
    known: HashMap<Replaced, f64>,
    /// The teacher's weights.
    pub(super) teacher: String,
    /// The text and how it is cut.
    pub(super) text: String,
}

impl ScoreFile {
    /// Opens the file, or makes it. A last line that was torn is cut off.
    ///
    /// # Errors
    /// [`PruneError::ScoreLine`] for a line that is none of ours; [`Error::Io`]; [`Error::Weights`].
    pub(super) fn open(
        path: &Path,
        checkpoint: &Checkpoint,
        options: &SearchOptions,
    ) -> Result<Self, Error> {
        let teacher = format!("{:016x}", weights_hash(checkpoint.weights())?);
        let windows = windows(checkpoint, options);
        let span = |tokens: &'_ Vec<u32>| -> u64 {
            text_hash(&[LabelledSpan::text(tokens.as_slice(), &[])])
        };
        // Windows of equal tokens that are cut elsewhere are another text.
        let hashes: Vec<u32> = windows.iter().map(span).flat_map(halves).collect();
        let text = format!("{:016x}", span(&hashes));

        let written = match std::fs::read_to_string(path) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(at(path, source)),
        };
        let whole = written.rfind('\n').map_or(0, |end| end + 1);
        let mut known = HashMap::new();
        for (line, number) in written[..whole].lines().zip(1..) {
            let read: Result<Line, _> = serde_json::from_str(line);
            let Line { teacher: of, text: on, replaced, kl } = read.map_err(|error| {
                let (file, reason) = (path.to_owned(), error.to_string());
                PruneError::ScoreLine { file, line: number, reason }
            })?;
            if of == teacher && on == text {
                known.insert(replaced, kl);
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|source| at(path, source))?;
        if whole < written.len() {
            file.set_len(whole as u64).map_err(|source| at(path, source))?;
        }
        Ok(Self { path: path.to_owned(), file, known, teacher, text })
    }

    /// What is known.
    pub(super) fn get(&self, replaced: &Replaced) -> Option<f64> {
        self.known.get(replaced).copied()
    }

    /// Writes a score down.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn add(&mut self, replaced: Replaced, kl: f64) -> Result<(), Error> {
        let (teacher, text) = (self.teacher.clone(), self.text.clone());
        let line = Line { teacher, text, replaced, kl };
        let mut json = serde_json::to_string(&line).expect("strings and numbers");
        // What is read back, so that a search that goes on decides by the same numbers as one in one piece.
        let kl = serde_json::from_str(&json).map_or(kl, |read: Line| read.kl);
        json.push('\n');
        self.file.write_all(json.as_bytes()).map_err(|source| at(&self.path, source))?;
        self.known.insert(line.replaced, kl);
        Ok(())
    }
}

fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}
