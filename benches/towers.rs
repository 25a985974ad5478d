//! How fast are the encoders of pictures and speech, against the machine's own peak?
//!
//! Random weights in the shapes of GLM-4.1V's tower (0.89 billion parameters), GLM-OCR's (0.43) and GLM-ASR's encoder (0.66),
//! each in f32 and in INT8 (W8A8). A picture of 336 x 336 and one of 1024 x 768, a page of 1.2 million pixels, 30 s of speech.
//! Arithmetic is counted from the shapes: two operations for each weight and row of a projection, and attention.
//!
//! Peaks printed first: f32 multiply-add, the int8 dot product, and our own product of large f32 matrices, which is what a tower
//! is held against.
//!
//! Run: `cargo bench --bench towers` (`-- vision`, `-- ocr`, `-- speech` run one). It takes several minutes and 8 GB. Read: `share`
//! is the tower's speed by that of the product.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{MediaEncoder, MediaInput, WeightDtype};
use lightglm_kernels::cpu::{MatrixRef, Weights, product, roofs, team};
use lightglm_model::config::{MediaConfig, PreprocessorConfig, VisionConfig};
use lightglm_model::decoder::{DenseParts, LoadPrecision};
use lightglm_model::weights::SeededWeights;
use lightglm_quant::{CheckpointQuantizer, Policy, Scheme};
use lightglm_speech::{SpeechEncoder, SpeechTower, speech_weights};
use lightglm_vision::{VisionEncoder, VisionTower, tower_weights};

/// Tensors of these shapes, random and the same every time.
fn random(shapes: Vec<(String, Vec<usize>)>) -> SeededWeights {
    SeededWeights::of_shapes(shapes, WeightDtype::F32, 1)
}

/// GFLOP/s of one large product of our own, in f32.
fn product_gflops() -> f64 {
    let [m, k, n] = [2048, 1536, 4096];
    let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; n * k]);
    let mut c = vec![0.0f32; m * n];
    let seconds = (0..5).map(|_| {
        let began = Instant::now();
        let right = MatrixRef::new(Weights::F32(&b), [n, k]).transposed();
        product(MatrixRef::new(Weights::F32(&a), [m, k]), right, &mut c, false);
        began.elapsed().as_secs_f64()
    });
    2.0 * (m * k * n) as f64 / seconds.fold(f64::MAX, f64::min) / 1e9
}

/// The quickest of a few runs.
fn seconds(encoder: &dyn MediaEncoder, input: &MediaInput<'_>, runs: usize) -> f64 {
    let run = |_| {
        let began = Instant::now();
        encoder.encode(input, &mut || ControlFlow::Continue(())).expect("rows");
        began.elapsed().as_secs_f64()
    };
    (0..runs).map(run).fold(f64::MAX, f64::min)
}

fn report(name: &str, what: &str, flop: f64, f32_seconds: f64, int8_seconds: f64, roof: f64) {
    let gflops = flop / f32_seconds / 1e9;
    println!(
        "{name} {what}: {:.1} GFLOP; f32 {f32_seconds:.2} s, {gflops:.0} GFLOP/s, share {:.2}; int8 {int8_seconds:.2} s, {:.2} times as fast",
        flop / 1e9,
        gflops / roof,
        f32_seconds / int8_seconds,
    );
}

fn int8() -> Policy {
    Policy::uniform("int8".parse::<Scheme>().expect("a scheme"))
}

fn vision_config(json: &str) -> VisionConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json");
    std::fs::write(&file, json).expect("written");
    match MediaConfig::from_file(&file).expect("a configuration") {
        Some(MediaConfig::Vision(config)) => config,
        other => panic!("{other:?}"),
    }
}

/// Operations for a picture of `n` patches.
fn vision_flop(config: &VisionConfig, n: f64) -> f64 {
    let (d, out) = (config.hidden_size as f64, config.out_hidden_size as f64);
    let merged = (config.spatial_merge_size * config.spatial_merge_size) as f64;
    let block = 4.0 * d * d + 3.0 * d * config.mlp_size as f64;
    let attention = 4.0 * n * n * d;
    let blocks = config.depth as f64 * (2.0 * n * block + attention);
    let merger = out * out + 3.0 * out * config.merger_size as f64 + out * d * merged;
    blocks + 2.0 * n * d * config.patch_width() as f64 + 2.0 * n / merged * merger
}

fn vision(name: &str, json: &str, pictures: &[(usize, usize)], roof: f64) {
    let config = vision_config(json);
    let source = tower_weights(&config, random(config.tensor_shapes()), Path::new("random"));
    let settings = PreprocessorConfig::default();
    let parts = DenseParts::unchecked(&source, Path::new("random"), LoadPrecision::Stored);
    let times: Vec<(f64, f64)> = {
        let tower = VisionTower::from_parts(&config, &parts.expect("parts"), &FlexDevice);
        let encoder =
            VisionEncoder::<Flex, _>::new(tower.expect("a tower"), &config, &settings, &FlexDevice);
        pictures.iter().map(|&(width, height)| timed(&encoder, width, height)).collect()
    };
    let policy = int8();
    let parts = CheckpointQuantizer::new(&source, Path::new("random"), &policy);
    let tower = VisionTower::from_parts(&config, &parts, &FlexDevice).expect("a tower");
    let encoder = VisionEncoder::<Flex, _>::new(tower, &config, &settings, &FlexDevice);
    for (&(width, height), (patches, f32_seconds)) in pictures.iter().zip(times) {
        let (_, int8_seconds) = timed(&encoder, width, height);
        let flop = vision_flop(&config, patches);
        report(name, &format!("{width}x{height}"), flop, f32_seconds, int8_seconds, roof);
    }
}

/// Patches of a picture, and seconds for them.
fn timed(encoder: &dyn MediaEncoder, width: usize, height: usize) -> (f64, f64) {
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7 % 256) as u8).collect();
    let input = MediaInput::Picture { height, width, rgb: &rgb };
    let rows = encoder.layout(&input).expect("a layout").rows;
    let runs = if width * height > 1 << 18 { 1 } else { 3 };
    (rows as f64 * 4.0, seconds(encoder, &input, runs))
}

fn speech(roof: f64) {
    let json =
        r#"{"model_type": "glmasr", "audio_config": {}, "text_config": {"hidden_size": 2048}}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json");
    std::fs::write(&file, json).expect("written");
    let Ok(Some(MediaConfig::Audio(config))) = MediaConfig::from_file(&file) else {
        panic!("audio")
    };
    let (d, inner, out) = (config.hidden_size, config.intermediate_size, config.out_hidden_size);
    let source = speech_weights(&config, random(config.tensor_shapes()), Path::new("random"));
    let settings = PreprocessorConfig::default();
    let samples: Vec<f32> = (0..480_000).map(|i| (i as f32 * 0.03).sin() * 0.3).collect();
    let input = MediaInput::Sound { samples: &samples, rate: 16_000 };
    let f32_seconds = {
        let parts = DenseParts::unchecked(&source, Path::new("random"), LoadPrecision::Stored);
        let tower = SpeechTower::from_parts(&config, &parts.expect("parts"), &FlexDevice);
        let tower = tower.expect("an encoder");
        seconds(&SpeechEncoder::<Flex, _>::new(tower, &config, &settings, &FlexDevice), &input, 1)
    };
    let policy = int8();
    let parts = CheckpointQuantizer::new(&source, Path::new("random"), &policy);
    let tower = SpeechTower::from_parts(&config, &parts, &FlexDevice).expect("an encoder");
    let encoder = SpeechEncoder::<Flex, _>::new(tower, &config, &settings, &FlexDevice);
    let int8_seconds = seconds(&encoder, &input, 1);
    let (t, width) = (1500.0, d as f64);
    let layer = 4.0 * width * width + 2.0 * width * inner as f64;
    let layers = config.num_hidden_layers as f64 * (2.0 * t * layer + 4.0 * t * t * width);
    let front = 2.0 * 3.0 * width * (2.0 * t * config.num_mel_bins as f64 + t * width);
    let back = 2.0 * t / 4.0 * (2.0 * out as f64) * (inner + out) as f64;
    report("GLM-ASR", "30 s", layers + front + back, f32_seconds, int8_seconds, roof);
}

fn main() {
    let threads = team::num_threads();
    println!("f32 multiply-add {:.0} GFLOP/s", roofs::f32_fma_gflops(threads));
    println!("int8 dot product {:.0} GOP/s", roofs::int8_dot_gops(threads));
    let roof = product_gflops();
    println!("product of f32 matrices {roof:.0} GFLOP/s");
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let of = |kind: &str| {
        format!(r#"{{"model_type": "{kind}", "text_config": {{}}, "vision_config": {{}}}}"#)
    };
    if is_wanted("vision") {
        vision("GLM-4.1V", &of("glm4v"), &[(336, 336), (1024, 768)], roof);
    }
    if is_wanted("ocr") {
        vision("GLM-OCR", &of("glm_ocr"), &[(336, 336), (1280, 960)], roof);
    }
    if is_wanted("speech") {
        speech(roof);
    }
}
