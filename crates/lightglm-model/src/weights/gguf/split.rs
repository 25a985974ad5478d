//! Models in several GGUF files, as llama.cpp's `gguf-split` writes them.
//!
//! ```text
//! NAME-00001-of-00003.gguf    split.no (from 0), split.count, split.tensors.count (of all parts)
//! ```
//! The first part has the metadata of the model, each has tensors of its own, and the first may have none.
//!
//! Source: llama.cpp's `tools/gguf-split/gguf-split.cpp`, and `llama_split_path` in `src/llama.cpp`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lightglm_core::WeightError;

use super::file::GgufFile;

/// What a part says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// Which part, from 0.
    no: u64,
    /// Parts of the model, more than one.
    count: u64,
}

impl Split {
    /// `None` for a model in one file.
    pub(super) fn of(file: &GgufFile) -> Result<Option<Self>, WeightError> {
        let Some(count) = number(file, "split.count")?.filter(|count| *count > 1) else {
            return Ok(None);
        };
        let no = number(file, "split.no")?.filter(|no| *no < count);
        let no = no.ok_or_else(|| {
            malformed(file.path(), format!("no `split.no` below its split.count, {count}"))
        })?;
        Ok(Some(Self { no, count }))
    }
}

/// The model that `part`, opened already, is a part of: the others are opened beside it.
///
/// # Errors
/// [`WeightError::Io`] naming the part that is missing; [`WeightError::Malformed`] for a file that has not
/// the name of such a part, and for parts that contradict each other.
pub(super) fn open_all(part: GgufFile, split: Split) -> Result<GgufFile, WeightError> {
    let path = part.path().to_owned();
    let Split { no, count } = split;
    let prefix = prefix(&path, no, count).ok_or_else(|| {
        let expected = part_name("NAME", no, count);
        let reason = format!(
            "it is part {} of {count} of a model, but not called {expected}, so that the others \
             cannot be found",
            no + 1
        );
        malformed(&path, reason)
    })?;
    let mut model: Option<GgufFile> = None;
    for other in 0..count {
        let file = match other == no {
            true => part.clone(),
            false => {
                open_part(&path.with_file_name(part_name(&prefix, other, count)), other, count)?
            }
        };
        match &mut model {
            None => model = Some(file),
            Some(model) => model.append(file)?,
        }
    }
    let model = model.unwrap_or(part);
    let (here, key) = (model.tensors().len() as u64, "split.tensors.count");
    match number(&model, key)? {
        Some(tensors) if tensors == here => Ok(model),
        Some(tensors) => {
            let reason = format!("its {count} parts have {here} tensors, `{key}` says {tensors}");
            Err(malformed(model.path(), reason))
        }
        None => Err(malformed(model.path(), format!("`{key}` is missing"))),
    }
}

fn open_part(path: &Path, no: u64, count: u64) -> Result<GgufFile, WeightError> {
    let file = GgufFile::open_one(path).map_err(|error| match error {
        WeightError::Io { file, source } if source.kind() == ErrorKind::NotFound => {
            let reason = format!("part {} of {count} of the model is missing", no + 1);
            let source = std::io::Error::new(ErrorKind::NotFound, reason);
            WeightError::Io { file, source }
        }
        other => other,
    })?;
    match Split::of(&file)? {
        Some(split) if split == (Split { no, count }) => Ok(file),
        found => {
            let says = match found {
                Some(Split { no, count }) => {
                    format!("it says that it is part {} of {count}", no + 1)
                }
                None => "it says nothing of parts".to_owned(),
            };
            Err(malformed(path, format!("{says}, its name says part {} of {count}", no + 1)))
        }
    }
}

/// `NAME` of `NAME-00001-of-00003.gguf`; `None` for another name.
fn prefix(path: &Path, no: u64, count: u64) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let prefix = name.strip_suffix(&part_name("", no, count))?;
    Some(prefix.to_owned())
}

fn part_name(prefix: &str, no: u64, count: u64) -> String {
    format!("{prefix}-{:05}-of-{count:05}.gguf", no + 1)
}

/// The first part of the model that a file of this name is a later part of.
pub(crate) fn first_part(path: &Path) -> Option<PathBuf> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |text: &str| match text.len() >= 5 {
        true => text.parse::<u64>().ok().filter(|number| *number > 0),
        false => None,
    };
    let (no, count) = (number(no)?, number(count)?);
    (no > 1).then(|| path.with_file_name(part_name(prefix, 0, count)))
}

fn number(file: &GgufFile, key: &str) -> Result<Option<u64>, WeightError> {
    let Some(value) = file.get(key) else { return Ok(None) };
    let wrong = || malformed(file.path(), format!("`{key}` is not a whole number"));
    value.as_u64().map(Some).ok_or_else(wrong)
}

fn malformed(file: &Path, reason: String) -> WeightError {
    WeightError::Malformed { file: file.to_owned(), format: "GGUF", reason }
}
