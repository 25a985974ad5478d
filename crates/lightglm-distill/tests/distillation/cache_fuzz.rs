//! Caches whose bytes are not those that were written.

use std::path::Path;
use std::time::Duration;

use lightglm_distill::{CacheHeader, TeacherCache, TeacherCacheError, TeacherRows, TopRow};
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};

use crate::text::{Text, written};

const VOCAB_SIZE: usize = 40;

fn text() -> Text {
    Text::new(4, 4, VOCAB_SIZE, 3)
}

fn small(path: &Path) -> Vec<u8> {
    let text = text();
    let header =
        CacheHeader { bytes_per_row: 48, ..CacheHeader::new(VOCAB_SIZE, 42, &text.spans()) };
    written(path, header, &text)
}

/// All that a file says of the text.
fn read(path: &Path, text: &Text) -> Result<Vec<Vec<TopRow>>, TeacherCacheError> {
    let cache = TeacherCache::open(path)?;
    text.spans().iter().map(|span| cache.of_span(span)).collect()
}

#[test]
fn every_flipped_byte_and_every_end_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.cache");
    let (bytes, text) = (small(&path), text());
    read(&path, &text).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path, &text).is_err(), "byte {at} of {}", bytes.len());
        }
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert!(TeacherCache::open(&path).is_err(), "{at} of {} bytes", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    std::fs::write(&path, &longer).unwrap();
    assert!(TeacherCache::open(&path).is_err());
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The file with checksums as if it had been written like this.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut sign = |from: usize, to: usize| {
        if from < to && to + 8 <= bytes.len() {
            let sum = fnv(&bytes[from..to]).to_le_bytes();
            bytes[to..to + 8].copy_from_slice(&sum);
        }
        let head = bytes.get(to + 8..to + 12).and_then(|head| head.first_chunk());
        (bytes.len(), head.map_or(0, |head| u32::from_le_bytes(*head) as usize))
    };
    let (len, mut record) = sign(0, 56);
    let mut at = 64;
    while record >= 24 && at + record <= len {
        let from = at;
        at += record;
        record = sign(from, at - 8).1;
    }
    sign(at, len.saturating_sub(16));
    bytes
}

/// Neither bytes that are damaged nor those of somebody who knows the checksums make the reader panic, or take memory.
#[test]
fn any_bytes_are_told_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.cache");
    let (bytes, text) = (small(&path), text());
    assert_eq!(signed(bytes.clone()), bytes);
    for is_signed in [false, true] {
        let mut fuzzer = Fuzzer::new("teacher cache");
        fuzzer.seeds = vec![bytes.clone(), bytes[..64].to_vec()];
        // Each execution writes a file.
        fuzzer.max_time = fuzzer.max_time.or(Some(Duration::from_secs(5)));
        fuzzer.max_memory_growth = Some(1 << 28);
        let report = fuzzer.run(|input| {
            let input = if is_signed { signed(input.to_vec()) } else { input.to_vec() };
            std::fs::write(&path, input).unwrap();
            let rows = read(&path, &text);
            let said = rows.map(|rows| TeacherRows::top(rows.concat(), VOCAB_SIZE, 1.0).is_ok());
            match said {
                Ok(is_of_vocabulary) => fingerprint(&is_of_vocabulary),
                Err(error) => fingerprint(&format_args!("{error}")),
            }
        });
        println!("{:?}", report.unwrap());
    }
}
