//! One file, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::client::{Client, RepositoryFile};
use crate::error::HubError;
use crate::progress::{Activity, ProgressCallback, Running};
use crate::sha256::{BUFFER, file_hash, hexadecimal};

/// Downloads are taken up again this often where a connection breaks.
const RETRIES: u32 = 3;

/// The status of an answer that begins where it was asked to.
const PARTIAL_CONTENT: u16 = 206;

/// A file on its way into `folder`.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) folder: &'a Path,
    pub(super) progress: &'a ProgressCallback,
}

impl Download<'_> {
    /// Fetches `file`, unless it is there already with the content that the hub has.
    pub(super) fn fetch(&self, file: &RepositoryFile) -> Result<(), HubError> {
        let target = self.folder.join(&file.path);
        if self.is_there(&target, file)? {
            return Ok(());
        }
        let explained = |source| HubError::Download {
            file: file.path.clone(),
            cache: self.folder.to_owned(),
            source: Box::new(source),
        };
        let mut attempt = 0;
        loop {
            match self.attempt(&target, file) {
                Ok(()) => return Ok(()),
                Err(HubError::OutOfReach { .. } | HubError::NoAnswer { .. })
                    if attempt < RETRIES =>
                {
                    thread::sleep(Duration::from_millis(300 << attempt));
                    attempt += 1;
                }
                Err(error) => return Err(explained(error)),
            }
        }
    }

    /// Whether `target` is the hub's `file`. A run that was interrupted may have left another version
    /// of it: lengths are not enough.
    fn is_there(&self, target: &Path, file: &RepositoryFile) -> Result<bool, HubError> {
        if !fs::metadata(target).is_ok_and(|found| found.is_file() && found.len() == file.size) {
            return Ok(false);
        }
        let Some(expected) = file.sha256() else { return Ok(true) };
        let running = self.progress.start(Activity::Checking, &file.path, Some(file.size));
        let sha256 = file_hash(target, &running)
            .map_err(|source| HubError::Read { path: target.to_owned(), source })?;
        Ok(sha256.eq_ignore_ascii_case(expected))
    }

    /// Goes on behind what an attempt before has left.
    fn attempt(&self, target: &Path, file: &RepositoryFile) -> Result<(), HubError> {
        let running = self.progress.start(Activity::Downloading, &file.path, Some(file.size));
        let path = PathBuf::from(format!("{}.part", target.display()));
        let unwritable = |source| unwritable(&path, source);
        fs::create_dir_all(target.parent().unwrap_or(self.folder)).map_err(unwritable)?;
        let mut part = Part::open(&path, file.size).map_err(unwritable)?;
        if part.length < file.size {
            self.receive(&mut part, &path, file, &running)?;
        }
        part.file.sync_all().map_err(unwritable)?;
        let sha256 = hexadecimal(part.hasher);
        if let Some(expected) = file.sha256().filter(|hash| !hash.eq_ignore_ascii_case(&sha256)) {
            let deleted = fs::remove_file(&path).is_ok();
            return Err(HubError::WrongHash {
                path,
                sha256,
                expected: expected.to_owned(),
                deleted,
            });
        }
        fs::rename(&path, target).map_err(unwritable)
    }

    fn receive(
        &self,
        part: &mut Part,
        path: &Path,
        file: &RepositoryFile,
        running: &Running<'_>,
    ) -> Result<(), HubError> {
        let broken = |source: io::Error| self.client.asked().unreachable(source);
        let response = self.client.open(&file.path, part.length)?;
        if part.length > 0 && response.status().as_u16() != PARTIAL_CONTENT {
            part.restart().map_err(|source| unwritable(path, source))?;
        }
        // One byte more than expected tells a longer file from the right one.
        let mut body = response.into_body().into_reader().take(file.size + 1 - part.length);
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = body.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            part.push(&buffer[..read]).map_err(|source| unwritable(path, source))?;
            running.at(part.length);
        }
        if part.length < file.size {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        if part.length > file.size {
            part.restart().map_err(|source| unwritable(path, source))?;
            return Err(broken(io::Error::other("more bytes than the file has")));
        }
        Ok(())
    }
}

fn unwritable(path: &Path, source: io::Error) -> HubError {
    HubError::Write { path: path.to_owned(), variable: "LIGHTGLM_CACHE", source }
}

/// The beginning of a file, and the hash of it so far.
struct Part {
    file: File,
    length: u64,
    hasher: Sha256,
}

impl Part {
    /// Opens what there is at `path`; more than `size` bytes cannot be the beginning of the file.
    fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut part = Self { file, length: 0, hasher: Sha256::new() };
        if part.file.metadata()?.len() > size {
            part.restart()?;
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = part.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(part);
            }
            part.hasher.update(&buffer[..read]);
            part.length += read as u64;
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.length, self.hasher) = (0, Sha256::new());
        Ok(())
    }
}
