//! `MetricsFile`: what a run told, line by line.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::event::TrainEvent;

/// A file of JSON lines, one for each [`TrainEvent`], each on the disk's side of this process before
/// the run goes on.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// A new file.
    ///
    /// # Errors
    /// What the operating system says, naming the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path).map_err(|error| named(path, error))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Goes on with a file, without the lines behind step `step`, which a resumed run says again, and
    /// without a last line that was cut off.
    ///
    /// # Errors
    /// What the operating system says, naming the file.
    pub fn resume(path: &Path, step: u64) -> io::Result<Self> {
        if !path.exists() {
            return Self::create(path);
        }
        let error = |error| named(path, error);
        let mut kept = Vec::new();
        for line in BufReader::new(File::open(path).map_err(error)?).lines() {
            let line = line.map_err(error)?;
            let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
            if event["step"].as_u64().is_some_and(|at| at <= step) {
                kept.push(line);
            }
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut temporary = lightglm_core::temporary_in(folder).map_err(error)?;
        for line in kept {
            writeln!(temporary, "{line}").map_err(error)?;
        }
        temporary.persist(path).map_err(|failed| error(failed.error))?;
        let file = OpenOptions::new().append(true).open(path).map_err(error)?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends an event.
    ///
    /// # Errors
    /// What the operating system says, naming the file.
    pub fn write(&mut self, event: &TrainEvent) -> io::Result<()> {
        let mut line = serde_json::to_string(event).map_err(io::Error::other)?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|error| named(&self.path, error))
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
