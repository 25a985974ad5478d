//! Folders of GPTQ, AWQ and compressed-tensors in GLM's and in Llama's layout: opened packed, and dequantized to
//! the weights that they were packed from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::f16;
use lightglm::checkpoint::Summary;
use lightglm::{Error, LoadOptions, Model, Weights};
use lightglm_core::{WeightDtype, WeightSource};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{GlmConfig, ModelType, RopeParameters};
use lightglm_model::weights::SeededWeights;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

const GROUP: usize = 16;

/// Codes of a word.
const PER_WORD: usize = 8;

/// As a file has it.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Gptq { symmetric: bool },
    Awq,
    PackQuantized,
}

impl Format {
    fn config(self) -> Value {
        match self {
            Self::Gptq { symmetric } => json!({
                "quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": symmetric,
                "desc_act": false, "damp_percent": 0.1, "true_sequential": true,
            }),
            Self::Awq => json!({
                "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": true,
                "version": "gemm", "modules_to_not_convert": null,
            }),
            Self::PackQuantized => json!({
                "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
                "config_groups": { "group_0": { "targets": ["Linear"], "weights":
                    { "num_bits": 4, "strategy": "group", "group_size": GROUP, "symmetric": true } } },
            }),
        }
    }

    fn is_symmetric(self) -> bool {
        !matches!(self, Self::Awq | Self::Gptq { symmetric: false })
    }
}

/// A matrix in 4 bits, by rows.
#[derive(Clone)]
struct Codes {
    n: usize,
    k: usize,
    codes: Vec<u32>,
    /// Of each group of each row.
    zeros: Vec<u32>,
    scales: Vec<f16>,
}

impl Codes {
    fn of(values: &[f32], n: usize, k: usize, symmetric: bool) -> Self {
        let mut all = Self { n, k, codes: vec![], zeros: vec![], scales: vec![] };
        for group in values.chunks(GROUP) {
            let most = group.iter().fold(1e-4f32, |most, value| most.max(value.abs()));
            let scale = f16::from_f32(most / 7.0);
            let zero = if symmetric { 8 } else { 6 + all.zeros.len() as u32 % 5 };
            let code = |value: &f32| (value / scale.to_f32()).round() + zero as f32;
            all.codes.extend(group.iter().map(|value| code(value).clamp(0.0, 15.0) as u32));
            all.zeros.push(zero);
            all.scales.push(scale);
        }
        all
    }

    fn dequantized(&self) -> Vec<f32> {
        let weight = |(at, &code): (usize, &u32)| {
            (code as f32 - self.zeros[at / GROUP] as f32) * self.scales[at / GROUP].to_f32()
        };
        self.codes.iter().enumerate().map(weight).collect()
    }

    /// The rows `rows`, in this order.
    fn rows(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        fn gather<T: Copy>(
            values: &[T],
            width: usize,
            rows: impl Iterator<Item = usize>,
        ) -> Vec<T> {
            rows.flat_map(|row| values[row * width..(row + 1) * width].iter().copied()).collect()
        }
        let groups = self.k / GROUP;
        Self {
            n: rows.clone().count(),
            k: self.k,
            codes: gather(&self.codes, self.k, rows.clone()),
            zeros: gather(&self.zeros, groups, rows.clone()),
            scales: gather(&self.scales, groups, rows),
        }
    }

    fn put(&self, tensors: &mut Tensors, layer: &str, format: Format) {
        let Self { n, k, .. } = *self;
        let groups = k / GROUP;
        let code = |row: usize, input: usize| self.codes[row * k + input];
        let less = u32::from(matches!(format, Format::Gptq { .. }));
        let zero = |row: usize, group: usize| self.zeros[row * groups + group] - less;
        let by_group: Vec<u8> = (0..groups)
            .flat_map(|group| (0..n).map(move |row| row * groups + group))
            .flat_map(|at| self.scales[at].to_le_bytes())
            .collect();
        let mut put = |part: &str, dtype, shape, bytes| {
            tensors.insert(format!("{layer}.{part}"), (dtype, shape, bytes));
        };
        match format {
            Format::Gptq { .. } => {
                let words = words(k / PER_WORD, n, |word, row, place| code(row, word * 8 + place));
                put("qweight", Dtype::I32, vec![k / PER_WORD, n], words);
                let zeros = self::words(groups, n / 8, |g, word, place| zero(word * 8 + place, g));
                put("qzeros", Dtype::I32, vec![groups, n / 8], zeros);
                put("scales", Dtype::F16, vec![groups, n], by_group);
                let order = (0..k).flat_map(|at| ((at / GROUP) as i32).to_le_bytes()).collect();
                put("g_idx", Dtype::I32, vec![k], order);
                if layer.ends_with("o_proj") || layer.ends_with("down_proj") {
                    put("bias", Dtype::F16, vec![n], vec![0; 2 * n]);
                }
            }
            Format::Awq => {
                let at = |word: usize, place: usize| word * 8 + [0, 2, 4, 6, 1, 3, 5, 7][place];
                let codes = words(k, n / 8, |input, word, place| code(at(word, place), input));
                put("qweight", Dtype::I32, vec![k, n / 8], codes);
                let zeros = words(groups, n / 8, |group, word, place| zero(at(word, place), group));
                put("qzeros", Dtype::I32, vec![groups, n / 8], zeros);
                put("scales", Dtype::F16, vec![groups, n], by_group);
            }
            Format::PackQuantized => {
                let codes = words(n, k / 8, |row, word, place| code(row, word * 8 + place));
                put("weight_packed", Dtype::I32, vec![n, k / 8], codes);
                let scales = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                put("weight_scale", Dtype::F16, vec![n, groups], scales);
                let shape = [n as i64, k as i64].into_iter().flat_map(i64::to_le_bytes).collect();
                put("weight_shape", Dtype::I64, vec![2], shape);
            }
        }
    }
}

/// `[rows, columns]` words of eight codes each, the first in the lowest bits.
fn words(rows: usize, columns: usize, code: impl Fn(usize, usize, usize) -> u32) -> Vec<u8> {
    let word = |row, column| {
        (0..PER_WORD).fold(0u32, |word, place| word | code(row, column, place) << (4 * place))
    };
    (0..rows * columns).flat_map(|at| word(at / columns, at % columns).to_le_bytes()).collect()
}

fn write(folder: &Path, config: &Value, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lightglm-text/tests/data/text/tokenizer.json");
    fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The row of a file in Llama's layout that the decoder has as `row`: neighbours of a head are halves there.
fn in_llama(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim * head_dim, row % head_dim);
    head + if at.is_multiple_of(2) { at / 2 } else { head_dim / 2 + at / 2 }
}

/// A model of `config`, dense with the weights that the codes stand for, and quantized by another program under
/// the name `model_type`.
fn folders(config: &GlmConfig, model_type: &str, format: Format) -> (TempDir, TempDir) {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 11);
    let (mut dense, mut packed) = (Tensors::new(), Tensors::new());
    let is_llama = !model_type.starts_with("glm");
    for (name, shape) in config.tensor_shapes() {
        let bytes = weights.tensor(&name).unwrap().bytes;
        let mut values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let layer = name.strip_suffix(".weight").filter(|name| name.ends_with("_proj"));
        let rows = shape[0];
        // The decoder's row of each of the file's.
        let mut order: Vec<usize> = (0..rows).collect();
        if is_llama && ["q_proj", "k_proj", "q_norm", "k_norm"].iter().any(|of| name.contains(of)) {
            (0..rows).for_each(|row| order[in_llama(row, config.head_dim)] = row);
        }
        let Some(layer) = layer else {
            dense.insert(name.clone(), (Dtype::F32, shape.clone(), f32s(&values)));
            if shape.len() == 1 {
                values = order.iter().map(|&row| values[row]).collect();
            }
            packed.insert(name, (Dtype::F32, shape, f32s(&values)));
            continue;
        };
        let codes = Codes::of(&values, rows, shape[1], format.is_symmetric());
        dense.insert(name.clone(), (Dtype::F32, shape.clone(), f32s(&codes.dequantized())));
        match layer.strip_suffix("gate_up_proj").filter(|_| is_llama) {
            Some(mlp) => {
                let half = rows / 2;
                codes.rows(0..half).put(&mut packed, &format!("{mlp}gate_proj"), format);
                codes.rows(half..rows).put(&mut packed, &format!("{mlp}up_proj"), format);
            }
            None => codes.rows(order.into_iter()).put(&mut packed, layer, format),
        }
    }
    let mut json: Value = serde_json::from_str(&config.to_json()).unwrap();
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(folders.0.path(), &json, &dense);
    json["model_type"] = json!(model_type);
    json["quantization_config"] = format.config();
    write(folders.1.path(), &json, &packed);
    folders
}

fn open(folder: &Path, weights: Weights) -> Result<Model, Error> {
    let kv_dtype = lightglm::KvDtype::F32;
    Model::open(folder, LoadOptions { kv_dtype, weights, ..LoadOptions::default() })
}

fn score(model: &Model) -> f64 {
    model.score("The parcel", &[" is here"]).unwrap()[0]
}

fn config(model_type: ModelType, attention_bias: bool) -> GlmConfig {
    let tiny = GlmConfig { model_type, attention_bias, ..GlmConfig::tiny() };
    match model_type {
        ModelType::Glm4 => tiny,
        _ => GlmConfig {
            rope: RopeParameters { partial_rotary_factor: 1.0, ..tiny.rope.clone() },
            ..tiny
        },
    }
}

const SYMMETRIC: Format = Format::Gptq { symmetric: true };
const ZEROS: Format = Format::Gptq { symmetric: false };

#[test]
fn folders_are_held_as_they_are_stored() {
    for (kind, bias, model_type, format) in [
        (ModelType::Glm4, true, "glm4", ZEROS),
        (ModelType::Glm4, true, "glm4", Format::Awq),
        (ModelType::Glm, false, "llama", SYMMETRIC),
        (ModelType::Glm, false, "mistral", Format::Awq),
        (ModelType::Glm, true, "qwen2", ZEROS),
        (ModelType::Glm, true, "qwen2", Format::PackQuantized),
        (ModelType::GlmQkNorm, false, "qwen3", Format::Awq),
        (ModelType::GlmQkNorm, false, "qwen3", SYMMETRIC),
    ] {
        let what = format!("{model_type} {format:?}");
        let (dense, packed) = folders(&config(kind, bias), model_type, format);
        let checkpoint = Checkpoint::open(packed.path()).unwrap();
        let summary = Summary::of(&checkpoint).unwrap();
        assert!(summary.problems.is_empty(), "{what}: {:?}", summary.problems);
        let quantized = summary.quantized.unwrap();
        // The embedding table and the head; six layers of each of the two blocks.
        let counts: Vec<usize> = quantized.schemes.into_values().collect();
        assert_eq!(counts, [2, 12], "{what}");
        assert!(quantized.policy.starts_with("w4a16-g16"), "{what}: {}", quantized.policy);
        let wanted = score(&open(dense.path(), Weights::Stored).unwrap());
        let exact = score(&open(packed.path(), Weights::Dtype(WeightDtype::F32)).unwrap());
        assert_eq!(exact, wanted, "{what}");
        let stored = open(packed.path(), Weights::Stored).unwrap();
        assert!(stored.is_integer(), "{what}: {}", stored.scheme());
        let bytes = |weights: &Weights| stored.weight_bytes(weights).unwrap();
        assert!(bytes(&Weights::Stored) < bytes(&Weights::Dtype(WeightDtype::F32)), "{what}");
        let found = score(&stored);
        println!("{what}: {} {found} {exact}", stored.scheme());
        assert!((found / exact - 1.0).abs() < 1e-3, "{what}: {found} {exact}");
        let error = open(packed.path(), Weights::scheme("int8").unwrap()).unwrap_err();
        assert!(matches!(error, Error::AlreadyQuantized { .. }), "{what}: {error}");
    }
}

/// Before config.json said it, AutoGPTQ and AutoAWQ wrote it to files of their own.
#[test]
fn older_folders_say_it_in_another_file() {
    for (format, name, older) in [
        (ZEROS, "quantize_config.json", json!({ "bits": 4, "group_size": GROUP, "sym": false })),
        (
            Format::Awq,
            "quant_config.json",
            json!({ "w_bit": 4, "q_group_size": GROUP, "zero_point": true, "version": "GEMM" }),
        ),
    ] {
        let (dense, packed) = folders(&config(ModelType::Glm, false), "llama", format);
        let file = packed.path().join("config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("quantization_config");
        fs::write(&file, json.to_string()).unwrap();
        let error = open(packed.path(), Weights::Stored).unwrap_err().to_string();
        assert!(error.contains("config.json: `quantization_config` is missing"), "{error}");
        fs::write(packed.path().join(name), "[]").unwrap();
        let error = open(packed.path(), Weights::Stored).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        fs::write(packed.path().join(name), older.to_string()).unwrap();
        let wanted = score(&open(dense.path(), Weights::Stored).unwrap());
        let exact = score(&open(packed.path(), Weights::Dtype(WeightDtype::F32)).unwrap());
        assert_eq!(exact, wanted, "{name}");
        assert!(open(packed.path(), Weights::Stored).unwrap().is_integer());
    }
}

/// The folder with one tensor or field changed: what is said of it.
#[test]
fn what_does_not_fit_is_named() {
    let refused = |change: &dyn Fn(&mut Value, &mut Tensors)| {
        let config = config(ModelType::Glm, false);
        let (_dense, folder) = folders(&config, "llama", ZEROS);
        let json = fs::read(folder.path().join("config.json")).unwrap();
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, TensorView<'_>)| {
            (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        let mut tensors: Tensors = file.tensors().into_iter().map(tensor).collect();
        change(&mut json, &mut tensors);
        write(folder.path(), &json, &tensors);
        open(folder.path(), Weights::Stored).unwrap_err().to_string()
    };
    let up = "model.layers.1.mlp.up_proj";
    let error = refused(&|_, tensors| drop(tensors.remove(&format!("{up}.qweight"))));
    assert!(error.contains("`model.layers.1.mlp.up_proj.weight` is missing"), "{error}");
    let error = refused(&|_, tensors| drop(tensors.remove(&format!("{up}.scales"))));
    assert!(error.contains("`model.layers.1.mlp.up_proj.scales` is missing"), "{error}");
    let error = refused(&|_, tensors| {
        for part in ["qweight", "qzeros", "scales", "g_idx"] {
            tensors.remove(&format!("{up}.{part}"));
        }
        let (_, shape, _) = tensors["model.layers.1.mlp.gate_proj.qweight"].clone();
        let dense = vec![shape[1], shape[0] * PER_WORD];
        let bytes = vec![0; dense.iter().product::<usize>() * 4];
        tensors.insert(format!("{up}.weight"), (Dtype::F32, dense, bytes));
    });
    assert!(error.contains("gate_proj and up_proj, are not quantized alike"), "{error}");
    let error = refused(&|_, tensors| {
        let bias = &mut tensors.get_mut("model.layers.0.mlp.down_proj.bias").unwrap().2;
        bias[1] = 0x3c;
    });
    assert!(error.contains("`model.layers.0.mlp.down_proj.bias` is not zero"), "{error}");
    for (method, version, says) in [
        ("fp8", "gemm", "\"fp8\""),
        ("bitsandbytes", "gemm", "\"bitsandbytes\""),
        ("awq", "gemv", "`quantization_config.version` is \"gemv\""),
    ] {
        let error = refused(&|json, _| {
            json["quantization_config"]["quant_method"] = json!(method);
            json["quantization_config"]["version"] = json!(version);
        });
        assert!(error.contains(says) && error.contains("config.json"), "{error}");
    }
}
