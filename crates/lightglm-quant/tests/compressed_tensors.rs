//! The layouts of compressed-tensors against layers that the Python package compressed
//! (`data/README.md`), in both directions; in `gptq_awq` those of GPTQ and AWQ.

mod gptq_awq;
mod memory_source;

use std::ops::ControlFlow;
use std::path::Path;

use lightglm_core::{WeightDtype, WeightError, WeightSource};
use lightglm_kernels::{ActivationFormat, QuantizedMatrix, ScaleDtype};
use lightglm_quant::formats::compressed_tensors::{
    CompressedFormat, CompressedTensorsCheckpoint, CompressedTensorsConfig,
    CompressedTensorsScheme, WeightStrategy, export_compressed_tensors, snap_minimums,
};
use lightglm_quant::formats::{FormatError, ImportedCheckpoint, ImportedLayer};
use lightglm_quant::round_to_nearest;
use memory_source::MemorySource;
use serde_json::{Map, Value, json};

/// The package subtracts the zero point before it multiplies; a minimum in f32 is that product
/// rounded, and the sum is rounded once more: half a unit each in the last place of the largest of
/// 255 steps.
const ASYMMETRIC_F32: f32 = 2.0 * f32::EPSILON;

struct Golden {
    source: MemorySource,
    configs: Map<String, Value>,
}

impl Golden {
    fn read() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let file = std::fs::read(data.join("compressed_tensors.safetensors")).unwrap();
        let json = std::fs::read(data.join("compressed_tensors.json")).unwrap();
        let Value::Object(mut json) = serde_json::from_slice(&json).unwrap() else { panic!() };
        let Some(Value::Object(configs)) = json.remove("configs") else { panic!() };
        Self { source: MemorySource::of_safetensors(&file), configs }
    }

    fn config(&self, name: &str) -> CompressedTensorsConfig {
        CompressedTensorsConfig::from_value(&self.configs[name]["quantization_config"]).unwrap()
    }

    fn layer(&self, name: &str) -> ImportedLayer {
        let source = CompressedTensorsCheckpoint::new(&self.source, self.config(name), "golden");
        source.layer(name).unwrap()
    }
}

#[test]
fn layers_of_the_package_dequantize_to_its_bits() {
    let golden = Golden::read();
    assert_eq!(golden.configs.len(), 9);
    for name in golden.configs.keys() {
        let ImportedLayer { matrix, activation } = golden.layer(name);
        let expected = golden.source.f32s(&format!("{name}.dequantized"));
        let shape = &golden.source.0[&format!("{name}.dequantized")].shape;
        assert_eq!(&matrix.shape[..], &shape[..], "{name}");
        let activations = name.starts_with("w8a8").then_some(ActivationFormat::INT8_PER_TOKEN);
        assert_eq!(activation, activations, "{name}");
        assert_eq!(matrix.minimums.is_some(), name.contains("asymmetric"), "{name}");
        let rounded = matrix.minimums.is_some() && !name.ends_with("bf16");
        let largest = expected.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let tolerance = if rounded { ASYMMETRIC_F32 * largest } else { 0.0 };
        for (at, (value, expected)) in matrix.dequantize().iter().zip(&expected).enumerate() {
            let off = (value - expected).abs();
            assert!(off <= tolerance, "{name} element {at}: {value:e}, expected {expected:e}");
        }
    }
}

/// Exports the layer `name` alone; the folder has its file and its config.json.
fn export(
    name: &str,
    matrix: &QuantizedMatrix,
    scheme: &CompressedTensorsScheme,
) -> tempfile::TempDir {
    let mut dense = MemorySource::default();
    let elements = matrix.shape[0] * matrix.shape[1];
    dense.put(&format!("{name}.weight"), "F32", &matrix.shape, [vec![0; 4 * elements]]);
    let folder = tempfile::tempdir().unwrap();
    export_compressed_tensors(
        folder.path(),
        &dense,
        &Map::new(),
        scheme,
        &[],
        &mut |layer| {
            assert_eq!(layer, name);
            Ok(matrix.clone())
        },
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    folder
}

#[test]
fn exports_are_the_packages_bytes() {
    let golden = Golden::read();
    for name in golden.configs.keys() {
        let config = golden.config(name);
        let group = &config.groups[0];
        let scheme = CompressedTensorsScheme {
            format: group.format,
            weights: group.weights,
            activation: group.activation,
            scale_dtype: match golden.source.0[&format!("{name}.weight_scale")].dtype.as_str() {
                "F16" => WeightDtype::F16,
                "BF16" => WeightDtype::Bf16,
                _ => WeightDtype::F32,
            },
        };
        let folder = export(name, &golden.layer(name).matrix, &scheme);
        let file = std::fs::read(folder.path().join("model.safetensors")).unwrap();
        let exported = MemorySource::of_safetensors(&file);
        let ours = exported.names();
        let prefix = format!("{name}.");
        let theirs = golden.source.names().into_iter();
        let theirs: Vec<String> = theirs
            .filter(|tensor| tensor.starts_with(&prefix) && !tensor.ends_with("dequantized"))
            .collect();
        assert_eq!(ours, theirs);
        for tensor in &ours {
            let (ours, theirs) = (&exported.0[tensor], &golden.source.0[tensor]);
            assert_eq!((&ours.dtype, &ours.shape), (&theirs.dtype, &theirs.shape), "{tensor}");
            assert_eq!(ours.parts, theirs.parts, "{tensor}");
        }
        // The configuration says the same as the package's, in the words that matter.
        let text = std::fs::read(folder.path().join("config.json")).unwrap();
        let read = CompressedTensorsConfig::from_config_json(&text).unwrap().unwrap();
        let exported_group = &read.groups[0];
        assert_eq!(exported_group.format, group.format);
        assert_eq!(exported_group.weights, group.weights);
        assert_eq!(exported_group.activation, group.activation);
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["quantization_config"]["ignore"], json!(["lm_head"]));
    }
}

/// A model of one block: a layer that is quantized, and tensors that are not.
fn small_model() -> MemorySource {
    let mut model = MemorySource::default();
    let f32s = |n: usize| (0..n).flat_map(|i| (i as f32 * 0.37).sin().to_le_bytes()).collect();
    model.put("lm_head.weight", "F32", &[6, 32], [f32s(192)]);
    model.put("model.embed_tokens.weight", "F32", &[6, 32], [f32s(192)]);
    model.put("model.layers.0.mlp.down_proj.weight", "F32", &[10, 32], [f32s(320)]);
    model.put("model.layers.0.self_attn.q_proj.bias", "BF16", &[9], [vec![1; 18]]);
    model.put("model.layers.0.self_attn.q_proj.weight", "F32", &[9, 64], [f32s(576)]);
    model.put("model.norm.weight", "BF16", &[32], [vec![2; 64]]);
    model
}

fn export_small(
    folder: &Path,
    scheme: &CompressedTensorsScheme,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), FormatError> {
    let model = small_model();
    let config = Map::from_iter([("model_type".to_owned(), json!("glm4"))]);
    export_compressed_tensors(
        folder,
        &model,
        &config,
        scheme,
        &["lm_head".to_owned()],
        &mut |layer| {
            let name = format!("{layer}.weight");
            let shape = model.shape(&name).unwrap();
            let shape = [shape[0], shape[1]];
            round_to_nearest(layer, &model.f32s(&name), shape, &scheme.weight_scheme())
        },
        progress,
    )
}

#[test]
fn a_model_comes_back_as_it_went() {
    let model = small_model();
    for scheme in [CompressedTensorsScheme::W8A8, CompressedTensorsScheme::w4a16(16, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = 0;
        export_small(folder.path(), &scheme, &mut |written| {
            bytes += written;
            ControlFlow::Continue(())
        })
        .unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        let file = std::fs::read(folder.path().join("model.safetensors")).unwrap();
        let text = std::fs::read(folder.path().join("config.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["model_type"], "glm4");
        let config = CompressedTensorsConfig::from_config_json(&text).unwrap().unwrap();
        let stored = MemorySource::of_safetensors(&file);
        let total: usize = stored.0.values().flat_map(|t| &t.parts).map(|part| part.len()).sum();
        assert_eq!(total as u64, bytes);
        let read = CompressedTensorsCheckpoint::new(&stored, config, folder.path());
        assert_eq!(read.names(), model.names());
        assert_eq!(
            read.layers(),
            ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"]
        );
        for name in model.names() {
            assert_eq!(read.shape(&name), model.shape(&name), "{name}");
            let (ours, theirs) = (read.tensor(&name).unwrap(), model.tensor(&name).unwrap());
            assert_eq!(ours.shape, theirs.shape);
            let layer = name.strip_suffix(".weight").filter(|layer| read.is_quantized(layer));
            let Some(layer) = layer else {
                assert_eq!((ours.dtype, ours.bytes), (theirs.dtype, theirs.bytes), "{name}");
                continue;
            };
            let shape = [ours.shape[0], ours.shape[1]];
            let weight = model.f32s(&name);
            let matrix = round_to_nearest(layer, &weight, shape, &scheme.weight_scheme()).unwrap();
            let imported = read.layer(layer).unwrap();
            assert_eq!(imported.matrix, matrix, "{name}");
            assert_eq!(imported.activation, scheme.activation);
        }
    }
}

#[test]
fn an_export_that_stops_leaves_nothing() {
    for after in 1..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut left = after;
        let error = export_small(folder.path(), &CompressedTensorsScheme::W8A8, &mut |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Err(FormatError::Weights(WeightError::Io { source, .. })) = error else { panic!() };
        assert_eq!(source.kind(), std::io::ErrorKind::Interrupted);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_a_scheme_cannot_hold_is_named() {
    let run = |scheme: &CompressedTensorsScheme, quantized: &CompressedTensorsScheme| {
        let folder = tempfile::tempdir().unwrap();
        let model = small_model();
        let error = export_compressed_tensors(
            folder.path(),
            &model,
            &Map::new(),
            scheme,
            &[],
            &mut |layer| {
                let name = format!("{layer}.weight");
                let shape = model.shape(&name).unwrap();
                let weights = model.f32s(&name);
                let scheme = quantized.weight_scheme();
                round_to_nearest(layer, &weights, [shape[0], shape[1]], &scheme)
            },
            &mut |_| ControlFlow::Continue(()),
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        error.unwrap_err()
    };
    let (w8, w4) = (CompressedTensorsScheme::W8A8, CompressedTensorsScheme::w4a16(16, true));
    assert!(matches!(run(&w8, &w4), FormatError::Scheme { part: "bits", .. }));
    let groups = CompressedTensorsScheme::w4a16(32, true);
    assert!(matches!(run(&w4, &groups), FormatError::Scheme { part: "group_size", .. }));
    let zeros = CompressedTensorsScheme::w4a16(16, false);
    assert!(matches!(run(&w4, &zeros), FormatError::Scheme { part: "minimums", .. }));
    let wide = CompressedTensorsScheme::w4a16(24, true);
    assert!(matches!(run(&wide, &wide), FormatError::Shape { .. }));
    let half = CompressedTensorsScheme { scale_dtype: WeightDtype::Bf16, ..w4.clone() };
    assert!(matches!(run(&half, &w4), FormatError::InexactScale { dtype: "BF16", .. }));
    // f16 scales quantize to minimums that are rounded themselves: no zero point stands for them.
    let half = CompressedTensorsScheme { scale_dtype: WeightDtype::F16, ..zeros.clone() };
    assert!(matches!(run(&zeros, &half), FormatError::Minimum { .. }));
    // Symmetric matrices fit into a scheme with zero points.
    let symmetric = Golden::read().layer("w4a16").matrix;
    assert!(symmetric.minimums.is_none());
    drop(export("w4a16", &symmetric, &CompressedTensorsScheme::w4a16(32, false)));
    let mut scheme = CompressedTensorsScheme::W8A8;
    scheme.weights.strategy = WeightStrategy::Tensor;
    assert!(matches!(run(&scheme, &w8), FormatError::Unsupported { .. }));
}

#[test]
fn snapped_minimums_are_zero_points() {
    let scheme = CompressedTensorsScheme::w4a16(32, false);
    let mut rounded = scheme.weight_scheme();
    rounded.scale_dtype = ScaleDtype::F16;
    let weight: Vec<f32> = (0..640).map(|i| (i as f32 * 0.61).sin() * 0.3 + 0.1).collect();
    let mut matrix = round_to_nearest("layer", &weight, [10, 64], &rounded).unwrap();
    let before = matrix.clone();
    assert!(snap_minimums(&mut matrix) < 0.01);
    assert_ne!(matrix.minimums, before.minimums);
    let folder = export("layer", &matrix, &scheme);
    let file = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let zeros = MemorySource::of_safetensors(&file).0.remove("layer.weight_zero_point").unwrap();
    assert_eq!((zeros.dtype.as_str(), &zeros.shape[..]), ("I32", &[2, 2][..]));
    // What the package computes, with the zero points of the file: row n of group g lies in nibble
    // n % 8 of word [n / 8, g].
    for (at, value) in matrix.dequantize().into_iter().enumerate() {
        let (n, g) = (at / 64, at % 64 / 32);
        let byte = zeros.parts[0][(n / 8 * 2 + g) * 4 + n % 8 / 2];
        let zero = f32::from(byte >> (n % 2 * 4) & 15) - 8.0;
        let expected = (f32::from(matrix.codes[at]) - 8.0 - zero) * matrix.scales[n * 2 + g];
        assert_eq!(value, expected, "element {at}");
    }
    // Free minimums move up to half a scale, positive ones to 0.
    let mut free = before;
    free.minimums = Some(vec![0.5; 20]);
    assert!(snap_minimums(&mut free) > 1.0);
    assert!(free.minimums.unwrap().iter().all(|minimum| *minimum == 0.0));
}

fn config_with(change: impl FnOnce(&mut Value)) -> Result<CompressedTensorsConfig, FormatError> {
    let golden = Golden::read();
    let mut config = golden.configs["w4a16"]["quantization_config"].clone();
    change(&mut config);
    CompressedTensorsConfig::from_value(&config)
}

#[test]
fn fields_that_do_not_fit_are_named() {
    let field = |path: &[&str], value: Value| {
        let error = config_with(|config| {
            let (last, folders) = path.split_last().unwrap();
            let mut at = config;
            for folder in folders {
                at = &mut at[*folder];
            }
            at[*last] = value;
        });
        error.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let weights = ["config_groups", "group_0", "weights"];
    let in_weights = |name: &'static str, value: Value| {
        field(&[weights[0], weights[1], weights[2], name], value)
    };
    assert_eq!(
        in_weights("group_size", Value::Null),
        "`quantization_config.config_groups.group_0.weights.group_size` is missing"
    );
    assert_eq!(
        in_weights("group_size", json!(-3)),
        "`quantization_config.config_groups.group_0.weights.group_size` is -3, expected a positive \
         number of columns"
    );
    assert!(
        in_weights("actorder", json!("group")).contains("actorder` is \"group\", which is not")
    );
    assert_eq!(in_weights("actorder", json!("weight")), "");
    assert!(in_weights("type", json!("float")).contains("type` is \"float\", which is not"));
    assert!(in_weights("num_bits", json!(3)).contains("num_bits` is 3"));
    assert!(in_weights("strategy", json!("block")).contains("strategy` is \"block\""));
    assert!(in_weights("symmetric", json!(1)).contains("symmetric` is 1, expected true or false"));
    assert!(field(&["quant_method"], json!("gptq")).contains("quant_method` is \"gptq\""));
    assert!(
        field(&["config_groups"], json!([])).contains("config_groups` is [], expected an object")
    );
    assert!(
        field(&["config_groups", "group_0", "format"], json!("marlin-24"))
            .contains("group_0.format")
    );
    let input = json!({"num_bits": 8, "type": "int", "dynamic": false, "strategy": "tensor"});
    assert!(
        field(&["config_groups", "group_0", "input_activations"], input)
            .contains("input_activations.dynamic")
    );
    assert!(field(&["ignore"], json!(["re:("])).contains("ignore"));
    assert!(
        field(&["transform_config"], json!({"config_groups": {}})).contains("transform_config")
    );
    assert!(CompressedTensorsConfig::from_config_json(b"{}").unwrap().is_none());
    let error = CompressedTensorsConfig::from_config_json(b"{").unwrap_err();
    assert!(matches!(error, FormatError::Json { .. }));
}

#[test]
fn layers_find_their_group() {
    let config = config_with(|config| {
        let mut other = config["config_groups"]["group_0"].clone();
        other["targets"] = json!(["re:.*self_attn\\.[qk]_proj$", "model.layers.1.mlp.down_proj"]);
        other["weights"]["group_size"] = json!(64);
        config["config_groups"]["group_1"] = other;
        config["ignore"] = json!(["lm_head", "re:^(?!model\\.)"]);
    })
    .unwrap();
    let group = |name: &str| config.group_of(name).map(|group| group.name.as_str());
    assert_eq!(group("model.layers.0.self_attn.q_proj"), Some("group_1"));
    assert_eq!(group("model.layers.0.self_attn.o_proj"), Some("group_0"));
    assert_eq!(group("model.layers.1.mlp.down_proj"), Some("group_1"));
    assert_eq!(group("lm_head"), None);
    assert_eq!(group("vision.proj"), None);
    assert_eq!(group("model.embed_tokens"), None);
    assert_eq!(config.groups[1].format, CompressedFormat::PackQuantized);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let error = |name: &str, change: &dyn Fn(&mut MemorySource)| {
        let mut golden = Golden::read();
        change(&mut golden.source);
        let source =
            CompressedTensorsCheckpoint::new(&golden.source, golden.config(name), "golden");
        source.layer(name).unwrap_err()
    };
    let gone = error("w4a16", &|source| drop(source.0.remove("w4a16.weight_scale")));
    assert!(matches!(gone, FormatError::Weights(WeightError::Missing { .. })));
    let shape = error("w4a16", &|source| {
        source.put(
            "w4a16.weight_shape",
            "I64",
            &[2],
            [[17i64, 105].map(i64::to_le_bytes).concat()],
        );
    });
    assert!(matches!(shape, FormatError::Shape { name, .. } if name == "w4a16.weight_packed"));
    let negative = error("w4a16", &|source| {
        source.put("w4a16.weight_shape", "I64", &[2], [[17i64, -8].map(i64::to_le_bytes).concat()]);
    });
    assert!(matches!(negative, FormatError::Shape { .. }));
    let scales = error("w4a16", &|source| {
        source.put("w4a16.weight_scale", "F32", &[17, 2], [vec![0; 136]]);
    });
    assert!(matches!(scales, FormatError::Shape { name, .. } if name == "w4a16.weight_scale"));
    let dtype = error("w8a8", &|source| source.put("w8a8.weight", "F32", &[1, 8], [vec![0; 32]]));
    assert!(matches!(dtype, FormatError::Dtype { expected: "I8", .. }));
    let short = error("w8a8", &|source| source.put("w8a8.weight", "I8", &[17, 40], [vec![0; 9]]));
    assert!(matches!(short, FormatError::Length { expected: 680, actual: 9, .. }));
    let order = error("w4a16", &|source| source.put("w4a16.weight_g_idx", "I32", &[96], [vec![]]));
    assert!(matches!(order, FormatError::ActivationOrder { .. }));
    let zeros = error("w8a8", &|source| {
        source.put("w8a8.weight_zero_point", "I8", &[17, 1], [vec![1; 17]]);
    });
    assert!(matches!(zeros, FormatError::UnexpectedZeroPoints { .. }));
    for shape in [[0, 1 << 40], [1 << 40, 0]] {
        let empty = error("w8a8", &|source| source.put("w8a8.weight", "I8", &shape, [vec![]]));
        assert!(matches!(empty, FormatError::Shape { name, .. } if name == "w8a8.weight"));
    }
    let infinite = error("w8a8", &|source| {
        source.put("w8a8.weight_scale", "F32", &[17, 1], [vec![255; 68]]);
    });
    assert!(matches!(infinite, FormatError::Matrix { .. }));
}
