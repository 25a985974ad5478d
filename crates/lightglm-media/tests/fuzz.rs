//! Whatever bytes are sent: no panic, no endless work, no more memory than is allowed.

use std::fs;
use std::path::Path;

use lightglm_media::{MediaLimits, Pcm, Picture};
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};

/// Small ones, so that a header which asks for more is soon refused.
fn limits() -> MediaLimits {
    MediaLimits {
        bytes: 1 << 16,
        pixels: 1 << 16,
        side: 1 << 12,
        seconds: 5.0,
        ..MediaLimits::default()
    }
}

fn seeds(endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let ending =
        |path: &Path| path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending));
    files.iter().filter(|path| ending(path)).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn pictures() {
    let mut fuzzer = Fuzzer::new("pictures");
    fuzzer.seeds = seeds(&["png", "jpg", "webp"]);
    let report = fuzzer.run(|input| {
        let decoded = Picture::decode(input, &limits());
        fingerprint(&decoded.map(|picture| picture.width()).map_err(|error| error.code()))
    });
    println!("{}", report.unwrap().executions);
}

#[test]
fn recordings() {
    let mut fuzzer = Fuzzer::new("recordings");
    fuzzer.seeds = seeds(&["wav", "flac", "mp3", "ogg"]);
    let report = fuzzer.run(|input| {
        let decoded = Pcm::decode(input, &limits());
        fingerprint(&decoded.map(|pcm| pcm.rate()).map_err(|error| error.code()))
    });
    println!("{}", report.unwrap().executions);
}
