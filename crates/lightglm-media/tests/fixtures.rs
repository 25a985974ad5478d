//! The references: transformers' preprocessing, torchvision's resizing, torchaudio's resampling.

use std::fs;
use std::path::PathBuf;

use lightglm_media::{LogMel, MediaError, PatchSettings, Pcm, Picture, smart_resize};
use safetensors::SafeTensors;
use serde_json::Value;

fn folder(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("LIGHTGLM_SHARED").map_or(own, PathBuf::from);
    let folder = shared.join("fixtures").join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

struct Fixture {
    bytes: Vec<u8>,
    meta: Value,
}

impl Fixture {
    fn open(name: &str) -> Option<Self> {
        let folder = folder(name)?;
        let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
        let meta = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        Some(Self { bytes, meta })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn f32s(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        let values = tensor.data().chunks_exact(4);
        let values = values.map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        (tensor.shape().to_vec(), values)
    }

    fn picture(&self, name: &str) -> Picture {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        Picture::new(tensor.shape()[1], tensor.shape()[0], tensor.data().to_vec()).unwrap()
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn sizes_are_smart_resizes() {
    let Some(fixture) = Fixture::open("resize") else { return };
    for case in fixture.meta["smart_resize"].as_array().unwrap() {
        let [height, width, factor, least, most] =
            ["height", "width", "factor", "min_pixels", "max_pixels"].map(|key| number(&case[key]));
        let found = smart_resize(height, width, factor, least, most);
        match case["result"].as_array() {
            Some(size) => {
                assert_eq!(found.unwrap(), (number(&size[0]), number(&size[1])), "{case}")
            }
            None => assert!(matches!(found, Err(MediaError::TooNarrow { .. })), "{case}"),
        }
    }
}

#[test]
fn pictures_are_resized_to_the_bit() {
    let Some(fixture) = Fixture::open("resize") else { return };
    for (i, size) in fixture.meta["sizes"].as_array().unwrap().iter().enumerate() {
        let size: Vec<usize> = size.as_array().unwrap().iter().map(number).collect();
        let picture = fixture.picture(&format!("{i}.rgb_u8_hwc"));
        let wanted = fixture.picture(&format!("{i}.torchvision"));
        assert_eq!([picture.height(), picture.width(), wanted.height(), wanted.width()], size[..]);
        let found = picture.resized(wanted.width(), wanted.height());
        let differ = found.rgb().iter().zip(wanted.rgb()).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "picture {i}");
    }
}

#[test]
fn patches_are_transformers() {
    let Some(fixture) = Fixture::open("preproc") else { return };
    for image in fixture.meta["images"].as_array().unwrap() {
        let i = number(&image["index"]);
        let settings = PatchSettings {
            min_pixels: number(&image["size"]["shortest_edge"]),
            max_pixels: number(&image["size"]["longest_edge"]),
            ..PatchSettings::default()
        };
        let patches = settings.patches(&fixture.picture(&format!("img{i}.rgb_u8_hwc"))).unwrap();
        let grid = &image["grid"][0];
        assert_eq!((patches.rows, patches.columns), (number(&grid[1]), number(&grid[2])));
        let (shape, wanted) = fixture.f32s(&format!("img{i}.pixel_values_t0"));
        // The fixture has one of the two equal pictures of a patch.
        let area = settings.patch * settings.patch;
        for time in 0..settings.temporal {
            let own = patches.values.chunks_exact(area).skip(time).step_by(settings.temporal);
            let own: Vec<f32> = own.flatten().copied().collect();
            assert_eq!(shape, [patches.rows * patches.columns, 3 * area]);
            let difference = largest_difference(&own, &wanted);
            assert!(difference < 1e-6, "picture {i}: {difference}");
        }
    }
}

#[test]
fn spectra_are_transformers() {
    let Some(fixture) = Fixture::open("preproc") else { return };
    let tensors = fixture.tensors();
    let wave = tensors.tensor("wave.pcm_i16").unwrap();
    let wave: Vec<f32> = wave
        .data()
        .chunks_exact(2)
        .map(|two| f32::from(i16::from_le_bytes(two.try_into().unwrap())) / 32768.0)
        .collect();
    for mels in [80, 128] {
        let log_mel = LogMel::new(mels);
        let (shape, wanted) = fixture.f32s(&format!("mel{mels}.nopad"));
        let found = log_mel.features(&wave);
        assert_eq!(shape.iter().product::<usize>(), found.len(), "{shape:?}");
        let difference = largest_difference(&found, &wanted);
        assert!(difference < 1e-4, "{difference}");

        let found = log_mel.padded(&wave, 480_000);
        let (shape, wanted) = fixture.f32s(&format!("mel{mels}.padded30s_first_frames"));
        let (_, tail) = fixture.f32s(&format!("mel{mels}.padded30s_tail_value"));
        let frames = *shape.last().unwrap();
        let rows = found.chunks_exact(3000);
        let first: Vec<f32> = rows.clone().flat_map(|row| &row[..frames]).copied().collect();
        assert!(largest_difference(&first, &wanted) < 1e-4);
        for value in rows.flat_map(|row| &row[frames..]) {
            assert!((value - tail[0]).abs() < 1e-4, "{value} {tail:?}");
        }
    }
}

#[test]
fn rates_are_torchaudios() {
    let Some(fixture) = Fixture::open("resample") else { return };
    for rates in fixture.meta["rates"].as_array().unwrap() {
        let (from, to) = (number(&rates[0]), number(&rates[1]));
        let (_, samples) = fixture.f32s(&format!("{from}_{to}.in"));
        let (_, wanted) = fixture.f32s(&format!("{from}_{to}.out"));
        let found = Pcm::new(samples, from as u32).unwrap().resampled(to as u32).unwrap();
        let difference = largest_difference(found.samples(), &wanted);
        let largest = wanted.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // The reference's weights are computed in f32, of times up to 300.
        assert!(difference < 2e-5 * largest, "{from} to {to}: {difference} of {largest}");
    }
}
