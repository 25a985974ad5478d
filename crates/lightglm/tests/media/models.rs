//! The fixtures' models as folders that can be opened: with a tokenizer and a template.

use std::fs;
use std::path::Path;

use lightglm::{LoadOptions, Model, Picture};
use lightglm_testkit::Fixture;
use tempfile::TempDir;

/// As GLM-4.1V's writes pictures, and GLM-ASR's recordings; its placeholder here is `<|video|>`.
const TEMPLATE: &str = "[gMASK]<sop>{%- for m in messages -%}<|{{ m.role }}|>\n\
    {%- if m.content is string -%}{{ m.content }}{%- else -%}\
    {%- for item in m.content -%}\
    {%- if item.type == 'image' -%}<|begin_of_image|><|image|><|end_of_image|>\
    {%- elif item.type == 'audio' -%}<|begin_of_audio|><|video|><|end_of_audio|>\
    {%- else -%}{{ item.text }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt -%}<|assistant|>\n{%- endif -%}";

/// A folder of `name`'s fixture; `None` where that is not there.
pub(crate) fn folder(name: &str) -> Option<TempDir> {
    let fixture = Fixture::open(name)?;
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path| {
        let to = folder.path().join(from.file_name().unwrap());
        fs::copy(from, to).unwrap();
    };
    for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        copy(&fixture.folder().join(file));
    }
    let tokenizer = fixture.folder().join("../tokenizer");
    copy(&tokenizer.join("tokenizer.json"));
    copy(&tokenizer.join("tokenizer_config.json"));
    fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    Some(folder)
}

/// The model of `name`'s fixture.
pub(crate) fn model(name: &str, options: LoadOptions) -> Option<(TempDir, Model)> {
    let folder = folder(name)?;
    let model = Model::open(folder.path(), options).unwrap();
    Some((folder, model))
}

/// A picture that is another for each `seed`.
pub(crate) fn picture(width: usize, height: usize, seed: usize) -> Picture {
    let rgb = (0..width * height * 3).map(|i| ((i * (seed + 7)) % 251) as u8).collect();
    Picture::new(width, height, rgb).unwrap()
}

/// A WAV file of a tone.
pub(crate) fn wav(seconds: f64, rate: u32) -> Vec<u8> {
    let samples = (seconds * f64::from(rate)) as usize;
    let data: Vec<u8> = (0..samples)
        .flat_map(|i| ((f64::from(i as u32) * 0.05).sin() * 9000.0).round().to_le_i16())
        .collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend([1, 0, 1, 0]);
    file.extend(rate.to_le_bytes());
    file.extend((rate * 2).to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

trait ToLe {
    fn to_le_i16(self) -> [u8; 2];
}

impl ToLe for f64 {
    fn to_le_i16(self) -> [u8; 2] {
        (self as i16).to_le_bytes()
    }
}
