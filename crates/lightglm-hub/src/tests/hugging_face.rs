//! Fetching from the Hugging Face hub, good and bad.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::fake_hub::{COMMIT, FakeHub, options};
use crate::error::chain;
use crate::{ResolveOptions, resolve};

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
    let folder = resolve("owner/name", &options).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    assert_eq!(fs::read(folder.join("tokenizer.json")).unwrap(), b"[]");
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
    assert!(!folder.join("README.md").exists());

    let asked = hub.requests().len();
    assert_eq!(resolve("owner/name", &options).unwrap(), folder);
    assert_eq!(hub.requests().len(), asked, "the second time, nothing is asked");
    options.offline = true;
    assert_eq!(resolve("owner/name", &options).unwrap(), folder);
    assert_eq!(resolve(&format!("owner/name@{COMMIT}"), &options).unwrap(), folder);
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
    let folder = resolve("owner/name", &options).unwrap();
    assert_eq!(fs::read(folder.join("m-1.safetensors")).unwrap(), b"one");
    assert_eq!(fs::read(folder.join("m-2.safetensors")).unwrap(), b"two");
    assert!(!folder.join("consolidated.safetensors").exists());

    fs::remove_file(folder.join("m-2.safetensors")).unwrap();
    let asked = hub.requests().len();
    assert_eq!(resolve("owner/name", &options).unwrap(), folder);
    assert_eq!(fs::read(folder.join("m-2.safetensors")).unwrap(), b"two");
    let again = hub.requests().split_off(asked);
    assert!(!again.iter().any(|path| path.ends_with("m-1.safetensors")), "{again:?}");
}

#[test]
fn one_file_of_several() {
    let hub = FakeHub::with_files(&[("q4.gguf", b"four"), ("big/q8.gguf", b"eight")]);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    let file = resolve("owner/name@main:big/q8.gguf", &options).unwrap();
    assert_eq!(fs::read(file).unwrap(), b"eight");
    assert!(error("owner/name", &options).contains("add one as :file"));
    let message = error("owner/name:q5.gguf", &options);
    assert!(message.contains("no file `q5.gguf`") && message.contains("q4.gguf"), "{message}");
}

#[test]
fn a_model_in_several_files_is_fetched_whole() {
    let (one, two) = ("q-00001-of-00002.gguf", "q-00002-of-00002.gguf");
    let hub = FakeHub::with_files(&[(one, b"one"), (two, b"two")]);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    let file = resolve("owner/name", &options).unwrap();
    assert_eq!(file.file_name().unwrap(), one);
    assert_eq!(fs::read(file.with_file_name(two)).unwrap(), b"two");
    let asked = hub.requests().len();
    for name in ["owner/name".to_owned(), format!("owner/name:{one}"), format!("owner/name:{two}")]
    {
        assert_eq!(resolve(&name, &options).unwrap(), file, "{name}");
    }
    assert_eq!(hub.requests().len(), asked, "what is there is not asked for again");
    fs::remove_file(file.with_file_name(two)).unwrap();
    assert_eq!(resolve(&format!("owner/name:{one}"), &options).unwrap(), file);
    assert_eq!(fs::read(file.with_file_name(two)).unwrap(), b"two");
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let weights: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let hub = FakeHub::with_files(&[("q.gguf", &weights)]);
    hub.break_off("q.gguf", 2);
    let dir = tempfile::tempdir().unwrap();
    let options = options(&hub.endpoint, dir.path());
    let file = resolve("owner/name", &options).unwrap();
    assert!(fs::read(file).unwrap() == weights, "the pieces do not fit together");

    let dir = tempfile::tempdir().unwrap();
    let options = self::options(&hub.endpoint, dir.path());
    hub.break_off("q.gguf", 100);
    assert!(error("owner/name", &options).contains("cannot download q.gguf"));
    let offline = ResolveOptions { offline: true, ..options.clone() };
    assert!(error("owner/name", &offline).contains("is not in"), "half a file is no file");
    hub.break_off("q.gguf", 0);
    let file = resolve("owner/name", &options).unwrap();
    assert!(fs::read(file).unwrap() == weights, "the next start goes on where the last ended");
}

#[test]
fn refusals_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hub = FakeHub::with_status(404);
    let message = error("owner/nmae", &options(&hub.endpoint, dir.path()));
    assert!(message.contains("404 for owner/nmae: check the spelling"), "{message}");

    let hub = FakeHub::with_status(401);
    let mut options = options(&hub.endpoint, dir.path());
    let message = error("owner/name", &options);
    assert!(message.contains("set HF_TOKEN") && message.contains("terms"), "{message}");
    assert!(hub.authorizations().is_empty());
    options.hugging_face.token = Some("secret".to_owned());
    let message = error("owner/name", &options);
    assert!(message.contains("does not give access") && !message.contains("secret"), "{message}");
    assert_eq!(hub.authorizations(), ["Bearer secret"]);

    let hub = FakeHub::with_status(500);
    let message = error("owner/name", &self::options(&hub.endpoint, dir.path()));
    assert!(message.contains("answers 500"), "{message}");
}

#[test]
fn a_hub_out_of_reach_fails_fast() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut options = options(&endpoint, dir.path());
    // It listens, and never answers.
    options.hugging_face.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let message = error("owner/name", &options);
    assert!(message.contains("out of reach (no answer in 0.3 s)"), "{message}");
    assert!(message.contains("HF_ENDPOINT") && message.contains("HTTPS_PROXY"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(listener);
    options.hugging_face.timeout = Duration::from_secs(60);
    let message = error("owner/name", &options);
    assert!(message.contains("out of reach") && message.contains("refused"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn offline_opens_no_connection() {
    let hub = FakeHub::with_files(&[("q.gguf", b"four")]);
    let dir = tempfile::tempdir().unwrap();
    let mut by_flag = options(&hub.endpoint, dir.path());
    let mut by_variable = by_flag.clone();
    by_flag.offline = true;
    by_variable.hugging_face.offline = true;
    for options in [by_flag, by_variable] {
        let message = error("owner/name", &options);
        assert!(message.contains("HF_HUB_OFFLINE") && message.contains("hub"), "{message}");
    }
    assert!(hub.requests().is_empty());
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
        let message = error("owner/name", &options(&hub.endpoint, dir.path()));
        assert!(message.contains("outside of its folder"), "{message}");
        assert!(!hub.requests().iter().any(|path| path.contains("evil")));
    }
}
