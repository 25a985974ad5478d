//! `AnswersFile`: rows that are appended as they come.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::row::place_of;
use crate::error::Error;
use crate::whole_file::write_whole;

/// Which answer a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) prompt: u64,
    pub(super) sample: u64,
}

/// A file of rows, of which each line is whole but for the last of a run that was killed.
pub(super) struct AnswersFile {
    path: PathBuf,
    file: File,
}

impl AnswersFile {
    /// A new file, or with `resume` the one that is there, begun with the same `settings`, without a line that was
    /// cut off; and which answer its last row is.
    pub(super) fn open(
        path: &Path,
        settings: &str,
        resume: bool,
    ) -> Result<(Self, Option<Place>), Error> {
        let failed = |source| Error::Io { file: path.to_owned(), source };
        let refused =
            |reason: &str| Error::AnswersFile { file: path.to_owned(), reason: reason.into() };
        let mut name = path.as_os_str().to_owned();
        name.push(".settings");
        let settings_file = PathBuf::from(name);
        let begun = match std::fs::read_to_string(&settings_file) {
            Ok(begun) => Some(begun),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::Io { file: settings_file, source }),
        };
        let holds = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        match (&begun, holds, resume) {
            (_, true, false) => {
                return Err(refused("is there already: go on with it, or name another"));
            }
            (None, true, true) => {
                return Err(refused("was not begun here: its settings are not known"));
            }
            (Some(begun), true, true) if begun != settings => {
                let reason =
                    format!("was begun with other settings: {}", difference(begun, settings));
                return Err(refused(&reason));
            }
            (Some(_), true, true) => {}
            (_, false, _) => write_whole(&settings_file, settings)?,
        }
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let file = file.map_err(failed)?;
        let (length, last) = whole_lines(&file).map_err(failed)?;
        let place = match last {
            Some(row) => {
                Some(place_of(&row).ok_or_else(|| refused("its last row is not one of these"))?)
            }
            None => None,
        };
        file.set_len(length).map_err(failed)?;
        Ok((Self { path: path.to_owned(), file }, place))
    }

    /// Appends rows, which are on the disk then.
    pub(super) fn append(&mut self, rows: &[String]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut lines = String::new();
        for row in rows {
            lines.push_str(row);
            lines.push('\n');
        }
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { file: self.path.clone(), source })
    }
}

/// Bytes of the lines that have an end, and the last of them.
fn whole_lines(file: &File) -> io::Result<(u64, Option<String>)> {
    let (mut length, mut last, mut line) = (0, None, Vec::new());
    let mut reader = BufReader::new(file);
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            length += line.len() as u64;
            last = Some(std::mem::take(&mut line));
        }
        line.clear();
    }
    Ok((length, last.map(|line| String::from_utf8_lossy(&line).into_owned())))
}

/// The first lines that differ.
fn difference(begun: &str, settings: &str) -> String {
    let pair = begun.lines().zip(settings.lines()).find(|(a, b)| a != b);
    pair.map_or_else(String::new, |(begun, now)| format!("`{begun}`, now `{now}`"))
}
