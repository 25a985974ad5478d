//! Files that other programs wrote, read as those read them. `tools/media_samples.py` makes them.

use std::fs;
use std::path::{Path, PathBuf};

use lightglm_media::{MediaLimits, Pcm, Picture};
use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn expected() -> serde_json::Map<String, Value> {
    serde_json::from_slice(&fs::read(data().join("expected.json")).unwrap()).unwrap()
}

/// Levels by which two decoders of a lossy picture may differ: of its transform's rounding, of its colours' and of how a coarse
/// colour is spread over four pixels.
fn tolerance(name: &str) -> i64 {
    match name {
        "baseline.jpg" | "grey.jpg" => 3,
        // Their coarser colours are spread in different ways, and CMYK is multiplied out.
        "progressive.jpg" | "lossy.webp" | "cmyk.jpg" => 8,
        _ => 0,
    }
}

#[test]
fn pictures_are_as_pillow_reads_them() {
    let mut count = 0;
    for (name, wanted) in expected() {
        let Some(width) = wanted["width"].as_u64() else { continue };
        let file = fs::read(data().join(&name)).unwrap();
        let picture = Picture::decode(&file, &MediaLimits::default()).unwrap();
        assert_eq!(picture.width() as u64, width, "{name}");
        assert_eq!(Some(picture.height() as u64), wanted["height"].as_u64(), "{name}");
        for pixel in wanted["pixels"].as_array().unwrap() {
            let pixel: Vec<i64> =
                pixel.as_array().unwrap().iter().filter_map(Value::as_i64).collect();
            let at = 3 * (pixel[0] as usize * picture.width() + pixel[1] as usize);
            for (found, wanted) in picture.rgb()[at..at + 3].iter().zip(&pixel[2..]) {
                let difference = (i64::from(*found) - wanted).abs();
                assert!(
                    difference <= tolerance(&name),
                    "{name} {pixel:?}: {:?}",
                    &picture.rgb()[at..at + 3]
                );
            }
        }
        let pixels = (picture.width() * picture.height()) as f64;
        for (channel, wanted) in wanted["mean"].as_array().unwrap().iter().enumerate() {
            let values = picture.rgb().iter().skip(channel).step_by(3);
            let mean = values.map(|&value| f64::from(value)).sum::<f64>() / pixels;
            assert!((mean - wanted.as_f64().unwrap()).abs() < 1.0, "{name}: {mean} {wanted}");
        }
        count += 1;
    }
    assert_eq!(count, 9);
}

#[test]
fn recordings_are_as_libsndfile_reads_them() {
    let mut count = 0;
    for (name, wanted) in expected() {
        let Some(rate) = wanted["rate"].as_u64() else { continue };
        let file = fs::read(data().join(&name)).unwrap();
        let pcm = Pcm::decode(&file, &MediaLimits::default()).unwrap();
        assert_eq!(u64::from(pcm.rate()), rate, "{name}");
        let samples = wanted["samples"].as_u64().unwrap() as i64;
        assert_eq!(pcm.samples().len() as i64, samples, "{name}");
        let sum: f64 = pcm.samples().iter().map(|&sample| f64::from(sample).powi(2)).sum();
        let loudness = (sum / samples as f64).sqrt();
        assert!(
            (loudness - wanted["loudness"].as_f64().unwrap()).abs() < 1e-3,
            "{name}: {loudness}"
        );
        for at in wanted["at"].as_array().unwrap() {
            let (i, value) = (at[0].as_u64().unwrap() as usize, at[1].as_f64().unwrap());
            let found = f64::from(pcm.samples()[i]);
            assert!((found - value).abs() < 1e-3, "{name} {i}: {found} {value}");
        }
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn what_is_cut_is_an_error_or_shorter() {
    for (name, wanted) in expected() {
        let file = fs::read(data().join(&name)).unwrap();
        let limits = MediaLimits::default();
        for end in (0..file.len()).step_by(1 + file.len() / 500) {
            let cut = &file[..end];
            let error = match wanted["rate"].is_null() {
                true => Picture::decode(cut, &limits).err(),
                false => Pcm::decode(cut, &limits).err(),
            };
            if let Some(error) = error {
                assert!(!error.to_string().contains("0x"), "{error}");
                assert_ne!(error.code(), "", "{name}");
            }
        }
    }
}
