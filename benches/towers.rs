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

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn_flex::{Flex, FlexDevice};
use bytes::Bytes;
use lightglm_core::{MediaEncoder, MediaInput, TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_kernels::cpu::{MatrixRef, Weights, product, roofs, team};
use lightglm_model::config::{MediaConfig, PreprocessorConfig, VisionConfig};
use lightglm_model::decoder::{DenseParts, LoadPrecision};
use lightglm_quant::{CheckpointQuantizer, Policy, Scheme};
use lightglm_speech::{SpeechEncoder, SpeechTower, speech_weights};
use lightglm_testkit::SplitMix;
use lightglm_vision::{VisionEncoder, VisionTower, tower_weights};

/// Tensors of the shapes that are asked for, random and the same every time.
struct Random(BTreeMap<String, Vec<usize>>);

impl Random {
    fn missing(name: &str) -> WeightError {
        WeightError::Missing { file: PathBuf::from("random"), name: name.to_owned() }
    }
}

impl WeightSource for Random {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).cloned()
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let shape = self.shape(name).ok_or_else(|| Self::missing(name))?;
        let mut random = SplitMix::new(name.len() as u64);
        let scale = (*shape.last().unwrap_or(&1) as f32).sqrt().recip();
        let is_norm = name.contains("norm");
        let values = (0..shape.iter().product::<usize>()).flat_map(|_| {
            let value = (random.next_f32() - 0.5) * 3.4 * scale;
            (if is_norm { 1.0 } else { value }).to_le_bytes()
        });
        let bytes = Bytes::from(values.collect::<Vec<u8>>());
        Ok(TensorView { dtype: WeightDtype::F32, shape, bytes })
    }
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
    let shapes = vision_shapes(&config);
    let source = tower_weights(&config, Random(shapes), Path::new("random"));
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

/// The tensors of a tower as its checkpoint has them.
fn vision_shapes(config: &VisionConfig) -> BTreeMap<String, Vec<usize>> {
    let (d, out, m) = (config.hidden_size, config.out_hidden_size, config.spatial_merge_size);
    let (p, inner) = (config.patch_size, config.merger_size);
    let mut shapes = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        shapes.insert(format!("model.visual.{name}"), shape.to_vec());
    };
    add("patch_embed.proj.weight", &[d, 3, config.temporal_patch_size, p, p]);
    add("patch_embed.proj.bias", &[d]);
    add("post_conv_layernorm.weight", &[d]);
    let side = config.table_side();
    add("embeddings.position_embedding.weight", &[side * side, d]);
    add("post_layernorm.weight", &[d]);
    add("downsample.weight", &[out, d, m, m]);
    add("downsample.bias", &[out]);
    add("merger.proj.weight", &[out, out]);
    add("merger.post_projection_norm.weight", &[out]);
    add("merger.post_projection_norm.bias", &[out]);
    add("merger.gate_proj.weight", &[inner, out]);
    add("merger.up_proj.weight", &[inner, out]);
    add("merger.down_proj.weight", &[out, inner]);
    for block in 0..config.depth {
        let mut add = |name: &str, shape: &[usize]| add(&format!("blocks.{block}.{name}"), shape);
        add("norm1.weight", &[d]);
        add("norm2.weight", &[d]);
        add("attn.qkv.weight", &[3 * d, d]);
        add("attn.qkv.bias", &[3 * d]);
        add("attn.proj.weight", &[d, d]);
        add("attn.proj.bias", &[d]);
        add("attn.q_norm.weight", &[config.head_dim()]);
        add("attn.k_norm.weight", &[config.head_dim()]);
        for (part, shape) in [
            ("gate_proj", [config.mlp_size, d]),
            ("up_proj", [config.mlp_size, d]),
            ("down_proj", [d, config.mlp_size]),
        ] {
            add(&format!("mlp.{part}.weight"), &shape);
            add(&format!("mlp.{part}.bias"), &shape[..1]);
        }
    }
    shapes
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
    let mut shapes = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        shapes.insert(name, shape.to_vec());
    };
    for (conv, channels) in [("conv1", config.num_mel_bins), ("conv2", d)] {
        add(format!("audio_tower.{conv}.weight"), &[d, channels, 3]);
        add(format!("audio_tower.{conv}.bias"), &[d]);
    }
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("audio_tower.layers.{layer}.{part}");
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(name(&format!("self_attn.{part}.weight")), &[d, d]);
            add(name(&format!("self_attn.{part}.bias")), &[d]);
        }
        for (part, shape) in [("fc1", [inner, d]), ("fc2", [d, inner])] {
            add(name(&format!("mlp.{part}.weight")), &shape);
            add(name(&format!("mlp.{part}.bias")), &shape[..1]);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(name(&format!("{norm}.weight")), &[d]);
            add(name(&format!("{norm}.bias")), &[d]);
        }
    }
    add("audio_tower.norm.weight".into(), &[d]);
    add("audio_tower.norm.bias".into(), &[d]);
    for (part, shape) in [("linear_1", [2 * out, inner]), ("linear_2", [out, 2 * out])] {
        add(format!("multi_modal_projector.{part}.weight"), &shape);
        add(format!("multi_modal_projector.{part}.bias"), &shape[..1]);
    }
    let source = speech_weights(&config, Random(shapes), Path::new("random"));
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
