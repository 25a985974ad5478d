//! Fetching from ModelScope's hub, good and bad.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::fake_hub::{FakeHub, options};
use crate::error::chain;
use crate::{Hub, ResolveOptions, resolve};

const NAME: &str = "modelscope:owner/name";

fn error(model: &str, options: &ResolveOptions) -> String {
    chain(&resolve(model, options).unwrap_err())
}

#[test]
fn a_folder_is_fetched_once() {
    let hub = FakeHub::with_files(&[
        ("README.md", b"read me"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"[]"),
        ("model.safetensors", b"weights"),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&hub.endpoint, dir.path());
    let folder = resolve(NAME, &options).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    assert_eq!(fs::read(folder.join("tokenizer.json")).unwrap(), b"[]");
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
    assert!(!folder.join("README.md").exists());

    let asked = hub.requests().len();
    options.offline = true;
    assert_eq!(resolve(NAME, &options).unwrap(), folder);
    options.default_hub = Hub::ModelScope;
    assert_eq!(resolve("owner/name", &options).unwrap(), folder);
    assert_eq!(hub.requests().len(), asked, "the second time, nothing is asked");
    assert!(error("hf:owner/name", &options).contains("HF_HUB_OFFLINE"), "the hubs are apart");
}

#[test]
fn a_missing_shard_is_fetched_alone() {
    let index = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    let hub = FakeHub::with_files(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("m-1.safetensors", b"one"),
        ("m-2.safetensors", b"two"),
        ("consolidated.safetensors", b"the same again"),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    let folder = resolve(NAME, &options).unwrap();
    assert_eq!(fs::read(folder.join("m-1.safetensors")).unwrap(), b"one");
    assert!(!folder.join("consolidated.safetensors").exists());

    fs::remove_file(folder.join("m-2.safetensors")).unwrap();
    let asked = hub.requests().len();
    assert_eq!(resolve(NAME, &options).unwrap(), folder);
    assert_eq!(fs::read(folder.join("m-2.safetensors")).unwrap(), b"two");
    let again = hub.requests().split_off(asked);
    assert!(!again.iter().any(|path| path.ends_with("m-1.safetensors")), "{again:?}");
}

#[test]
fn an_interrupted_run_mixes_no_versions() {
    let weights = [7; 1000];
    let hub = FakeHub::with_files(&[("config.json", b"{1}"), ("model.safetensors", &weights)]);
    hub.break_off("model.safetensors", 100);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    assert!(error(NAME, &options).contains("cannot download model.safetensors"));
    let offline = ResolveOptions { offline: true, ..options.clone() };
    assert!(error(NAME, &offline).contains("is not in"), "half a model is no model");
    hub.break_off("model.safetensors", 0);
    // As long as the one before.
    hub.put("config.json", b"{2}");
    let folder = resolve(NAME, &options).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{2}");
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn one_file_of_several() {
    let hub = FakeHub::with_files(&[("q4.gguf", b"four"), ("big/q8.gguf", b"eight")]);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    let file = resolve("modelscope:owner/name@master:big/q8.gguf", &options).unwrap();
    assert_eq!(fs::read(file).unwrap(), b"eight");
    assert!(error(NAME, &options).contains("add one as :file"), "one file is not the model");
    let message = error("modelscope:owner/name:q5.gguf", &options);
    assert!(message.contains("no file `q5.gguf`") && message.contains("q4.gguf"), "{message}");
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let weights: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    for ignores_ranges in [false, true] {
        let hub = FakeHub::with_files(&[("q.gguf", &weights)]);
        hub.break_off("q.gguf", 2);
        if ignores_ranges {
            hub.ignore_ranges();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = resolve(NAME, &options(&hub.endpoint, dir.path())).unwrap();
        assert!(fs::read(&file).unwrap() == weights, "the pieces do not fit together");
        assert!(!file.with_extension("gguf.part").exists());
    }
}

#[test]
fn content_that_is_not_the_listed_one_is_refused() {
    let listing = |size: u64, hash: &str| {
        format!(
            r#"{{"Data": {{"Files": [
                {{"Path": "q.gguf", "Type": "blob", "Size": {size}, "Sha256": "{hash}"}}
            ]}}}}"#
        )
    };
    let zeros = "0".repeat(64);
    for (size, hash, said) in [
        (4, &zeros[..], "expected 000"),
        (3, "", "more bytes than the file has"),
        (5, "", "unexpected end of file"),
    ] {
        let hub = FakeHub::with_files(&[("q.gguf", b"four")]);
        hub.lie_about_files(&listing(size, hash));
        let dir = tempfile::tempdir().unwrap();
        let options = options(&hub.endpoint, dir.path());
        let message = error(NAME, &options);
        assert!(message.contains("q.gguf") && message.contains(said), "{said}: {message}");
        let offline = ResolveOptions { offline: true, ..options };
        assert!(resolve(NAME, &offline).is_err(), "the refused file is found in the cache");
    }
}

#[test]
fn answers_that_are_no_list() {
    for listing in ["", "<html>", "{}", r#"{"Data": {"Files": [{"Path": 1}]}}"#] {
        let hub = FakeHub::with_files(&[]);
        hub.lie_about_files(listing);
        let dir = tempfile::tempdir().unwrap();
        let message = error(NAME, &options(&hub.endpoint, dir.path()));
        assert!(message.contains("is not a list of files"), "{listing}: {message}");
    }
    let hub = FakeHub::with_files(&[]);
    hub.lie_about_files(r#"{"Data": {"Files": null}}"#);
    let dir = tempfile::tempdir().unwrap();
    let message = error(NAME, &options(&hub.endpoint, dir.path()));
    assert!(message.contains("neither config.json"), "{message}");
}

#[test]
fn refusals_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hub = FakeHub::with_status(404);
    let message = error("modelscope:owner/nmae", &options(&hub.endpoint, dir.path()));
    assert!(message.contains("404 for modelscope:owner/nmae: check the spelling"), "{message}");

    let hub = FakeHub::with_status(403);
    let mut options = options(&hub.endpoint, dir.path());
    let message = error(NAME, &options);
    assert!(message.contains("set MODELSCOPE_API_TOKEN"), "{message}");
    assert!(message.contains("/models/owner/name first"), "{message}");
    assert!(hub.authorizations().is_empty());
    options.model_scope.token = Some("secret".to_owned());
    let message = error(NAME, &options);
    assert!(message.contains("does not give access") && !message.contains("secret"), "{message}");
    assert_eq!(hub.authorizations(), ["Bearer secret"]);
}

#[test]
fn a_hub_out_of_reach_fails_fast() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut options = options(&endpoint, dir.path());
    // It listens, and never answers.
    options.model_scope.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let message = error(NAME, &options);
    assert!(message.contains("out of reach (no answer in 0.3 s)"), "{message}");
    assert!(
        message.contains("MODELSCOPE_ENDPOINT") && message.contains("HTTPS_PROXY"),
        "{message}"
    );
    drop(listener);
    let message = error(NAME, &options);
    assert!(message.contains("out of reach") && message.contains("refused"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn names_from_the_network_stay_inside() {
    let index = br#"{"weight_map": {"a": "../../../evil.safetensors"}}"#;
    let outside = FakeHub::with_files(&[("../evil.gguf", b"x")]);
    let sharded = FakeHub::with_files(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("../../../evil.safetensors", b"x"),
    ]);
    for hub in [outside, sharded] {
        let dir = tempfile::tempdir().unwrap();
        let message = error(NAME, &options(&hub.endpoint, dir.path()));
        assert!(message.contains("outside of its folder"), "{message}");
        assert!(!hub.requests().iter().any(|path| path.contains("evil")));
    }
}

#[test]
fn a_shard_that_is_not_there() {
    let index = br#"{"weight_map": {"a": "m-1.safetensors"}}"#;
    let hub =
        FakeHub::with_files(&[("config.json", b"{}"), ("model.safetensors.index.json", index)]);
    let dir = tempfile::tempdir().unwrap();
    let message = error(NAME, &options(&hub.endpoint, dir.path()));
    assert!(message.contains("no file `m-1.safetensors`"), "{message}");
}

#[test]
fn programs_that_start_together_download_once() {
    let hub = FakeHub::with_files(&[("q.gguf", b"four")]);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| resolve(NAME, &options).unwrap());
        }
    });
    let downloads = hub.requests().iter().filter(|path| path.ends_with("q.gguf")).count();
    assert_eq!(downloads, 1);
}
