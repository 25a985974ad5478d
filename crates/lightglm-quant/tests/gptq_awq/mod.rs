//! GPTQ and AWQ: layers packed bit by bit, as the formats' descriptions say, against what is read.

use half::f16;
use lightglm_core::WeightSource;
use lightglm_quant::formats::gptq_awq::{GptqAwqCheckpoint, GptqAwqConfig, WordLayout};
use lightglm_quant::formats::{FormatError, ImportedCheckpoint};
use serde_json::{Value, json};

use crate::memory_source::MemorySource;

/// A layer of codes, zero points and scales that a small generator chose.
struct Layer {
    n: usize,
    k: usize,
    bits: usize,
    group_size: usize,
    codes: Vec<u32>,
    zeros: Vec<u32>,
    scales: Vec<f16>,
}

impl Layer {
    fn new(n: usize, k: usize, bits: usize, group_size: usize, symmetric: bool) -> Self {
        let mut state = 1u64;
        let mut next = move |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32 % below
        };
        let groups = k.div_ceil(group_size);
        let mut zero = || if symmetric { 1 << (bits - 1) } else { next(1 << bits) };
        let zeros = (0..n * groups).map(|_| zero()).collect();
        let codes = (0..n * k).map(|_| next(1 << bits)).collect();
        let scale = |_| f16::from_f32((1 + next(2000)) as f32 / 65536.0);
        Self { n, k, bits, group_size, codes, zeros, scales: (0..n * groups).map(scale).collect() }
    }

    fn groups(&self) -> usize {
        self.k.div_ceil(self.group_size)
    }

    /// Each weight by the formula, in f64.
    fn weights(&self) -> Vec<f32> {
        let weight = |at: usize| {
            let group = at / self.k * self.groups() + at % self.k / self.group_size;
            let steps = f64::from(self.codes[at]) - f64::from(self.zeros[group]);
            (steps * f64::from(self.scales[group].to_f32())) as f32
        };
        (0..self.n * self.k).map(weight).collect()
    }

    /// The tensors of `layout`, word by word.
    fn pack(&self, layout: WordLayout) -> MemorySource {
        let (n, k, groups, p) = (self.n, self.k, self.groups(), 32 / self.bits);
        let word = |code: &dyn Fn(usize) -> u32| {
            (0..p).fold(0u32, |word, place| word | code(place) << (self.bits * place))
        };
        // Which of eight neighbours stands at a place.
        let output = |place: usize| match layout {
            WordLayout::AwqGemm => [0, 2, 4, 6, 1, 3, 5, 7][place],
            _ => place,
        };
        // 1 off each of a word's zero points, with what 0 borrows.
        let ones = match layout {
            WordLayout::Gptq => (0..p).map(|place| 1 << (self.bits * place)).sum::<u32>(),
            _ => 0,
        };
        let mut qweight = Vec::new();
        let shape = match layout {
            WordLayout::AwqGemm => {
                for (input, words) in (0..k).flat_map(|input| (0..n / p).map(move |w| (input, w))) {
                    qweight
                        .push(word(&|place| self.codes[(words * p + output(place)) * k + input]));
                }
                vec![k, n / p]
            }
            _ => {
                for (words, row) in (0..k / p).flat_map(|words| (0..n).map(move |row| (words, row)))
                {
                    qweight.push(word(&|place| self.codes[row * k + words * p + place]));
                }
                vec![k / p, n]
            }
        };
        let mut qzeros = Vec::new();
        for (group, words) in (0..groups).flat_map(|group| (0..n / p).map(move |w| (group, w))) {
            let zero = |place: usize| self.zeros[(words * p + output(place)) * groups + group];
            qzeros.push(word(&zero).wrapping_sub(ones));
        }
        let of_group = |group: usize| (0..n).map(move |row| self.scales[row * groups + group]);
        let scales: Vec<u8> = (0..groups).flat_map(of_group).flat_map(f16::to_le_bytes).collect();
        let bytes =
            |words: Vec<u32>| words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        let order = (0..k).map(|input| (input / self.group_size) as u32).collect();
        let mut tensors = MemorySource::default();
        let mut put = |part: &str, dtype: &str, shape: Vec<usize>, bytes: Vec<u8>| {
            tensors.put(&format!("layer.{part}"), dtype, &shape, [bytes]);
        };
        put("qweight", "I32", shape, bytes(qweight));
        put("qzeros", "I32", vec![groups, n / p], bytes(qzeros));
        put("scales", "F16", vec![groups, n], scales);
        put("bias", "F16", vec![n], vec![0; 2 * n]);
        if layout != WordLayout::AwqGemm {
            put("g_idx", "I32", vec![k], bytes(order));
        }
        tensors
    }
}

fn config(fields: Value) -> Result<GptqAwqConfig, FormatError> {
    GptqAwqConfig::from_value(&fields)
}

fn gptq(bits: usize, group_size: i64, symmetric: bool, format: &str) -> GptqAwqConfig {
    let fields = json!({ "quant_method": "gptq", "bits": bits, "group_size": group_size,
                         "sym": symmetric, "desc_act": false, "checkpoint_format": format });
    config(fields).unwrap()
}

fn awq(group_size: i64) -> GptqAwqConfig {
    let fields = json!({ "quant_method": "awq", "bits": 4, "group_size": group_size,
                         "zero_point": true, "version": "gemm" });
    config(fields).unwrap()
}

#[test]
fn codes_and_zero_points_are_the_files() {
    for (n, k, group_size) in [(8, 32, 32), (136, 96, 16), (72, 256, 128), (24, 64, 64)] {
        for symmetric in [false, true] {
            for bits in [4, 8] {
                let layer = Layer::new(n, k, bits, group_size, symmetric);
                for (layout, format) in
                    [(WordLayout::Gptq, "gptq"), (WordLayout::GptqV2, "gptq_v2")]
                {
                    let size = if group_size == k { -1 } else { group_size as i64 };
                    check(&layer, layout, gptq(bits, size, symmetric, format), symmetric);
                }
            }
            let layer = Layer::new(n, k, 4, group_size, symmetric);
            check(&layer, WordLayout::AwqGemm, awq(group_size as i64), false);
        }
    }
    // The last group of a row may be short in GPTQ.
    let layer = Layer::new(16, 40, 4, 32, false);
    check(&layer, WordLayout::Gptq, gptq(4, 32, false, "gptq"), false);
}

fn check(layer: &Layer, layout: WordLayout, config: GptqAwqConfig, symmetric: bool) {
    let tensors = layer.pack(layout);
    let source = GptqAwqCheckpoint::new(&tensors, config, "test");
    let matrix = source.layer("layer").unwrap().matrix;
    let scheme = source.scheme("layer").unwrap();
    assert_eq!(matrix.shape, [layer.n, layer.k]);
    assert_eq!(matrix.minimums.is_none(), symmetric, "{layout:?}");
    assert_eq!(scheme.weight.symmetric, symmetric);
    assert_eq!(scheme.format(layer.k).unwrap().group_size, matrix.group_size);
    for (at, (found, wanted)) in matrix.dequantize().iter().zip(layer.weights()).enumerate() {
        // -0 and 0 are one weight.
        assert!(*found == wanted, "{layout:?} weight {at}: {found:e}, not {wanted:e}");
    }
    assert_eq!(source.names(), ["layer.bias", "layer.weight"]);
    assert_eq!(source.shape("layer.weight"), Some(vec![layer.n, layer.k]));
    assert_eq!(source.tensor("layer.weight").unwrap().shape, [layer.n, layer.k]);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let layer = Layer::new(16, 32, 4, 16, false);
    let refused = |layout, config: GptqAwqConfig, change: &dyn Fn(&mut MemorySource)| {
        let mut tensors = layer.pack(layout);
        change(&mut tensors);
        let source = GptqAwqCheckpoint::new(&tensors, config, "test");
        source.layer("layer").unwrap_err().to_string()
    };
    let base = gptq(4, 16, false, "gptq");
    let swap: &dyn Fn(&mut MemorySource) = &|tensors| {
        let order: Vec<u8> = (0..32i32).flat_map(|at| (at % 2).to_le_bytes()).collect();
        tensors.put("layer.g_idx", "I32", &[32], [order]);
    };
    let error = refused(WordLayout::Gptq, base, swap);
    assert!(error.contains("`layer.g_idx`") && error.contains("activation order"), "{error}");
    let unsaid = GptqAwqConfig { desc_act: true, ..base };
    let error = refused(WordLayout::Gptq, unsaid, &|tensors| drop(tensors.0.remove("layer.g_idx")));
    assert!(error.contains("`layer.g_idx`"), "{error}");
    // Columns that stand in order may have been quantized in any.
    let source = layer.pack(WordLayout::Gptq);
    assert!(GptqAwqCheckpoint::new(&source, unsaid, "test").layer("layer").is_ok());
    for part in ["qzeros", "scales"] {
        let name = format!("layer.{part}");
        for (layout, config) in [(WordLayout::Gptq, base), (WordLayout::AwqGemm, awq(16))] {
            let error = refused(layout, config, &|tensors| drop(tensors.0.remove(&name)));
            assert!(error.contains(&format!("`{name}` is missing")), "{error}");
            let error = refused(layout, config, &|tensors| {
                tensors.0.get_mut(&name).unwrap().shape[0] = 3;
            });
            assert!(error.contains(&format!("`{name}` has shape [3, ")), "{error}");
        }
    }
    let error = refused(WordLayout::Gptq, GptqAwqConfig { symmetric: true, ..base }, &|_| {});
    assert!(error.contains("`layer.qzeros` has zero points that are not in the middle"), "{error}");
    let error = refused(WordLayout::Gptq, base, &|tensors| {
        tensors.0.get_mut("layer.qweight").unwrap().dtype = "I16".into();
    });
    assert!(error.contains("`layer.qweight` is stored as I16"), "{error}");
    let error = refused(WordLayout::Gptq, base, &|tensors| {
        tensors.put("layer.scales", "F16", &[2, 16], [vec![0xff; 64]]);
    });
    assert!(error.contains("`layer`"), "{error}");
}

#[test]
fn what_is_not_read_is_refused_by_its_field() {
    let cases = [
        ("bits", json!({ "bits": 3 })),
        ("bits", json!({ "bits": 2 })),
        ("bits", json!({ "quant_method": "awq", "bits": 8 })),
        ("version", json!({ "quant_method": "awq", "version": "gemv" })),
        ("version", json!({ "quant_method": "awq", "version": "marlin" })),
        ("checkpoint_format", json!({ "checkpoint_format": "marlin" })),
        ("is_marlin_format", json!({ "is_marlin_format": true })),
        ("pack_dtype", json!({ "pack_dtype": "int16" })),
        ("rotation", json!({ "rotation": "hadamard" })),
        ("dynamic", json!({ "dynamic": { "+:.*down.*": { "bits": 8 } } })),
        ("group_size", json!({ "group_size": 0 })),
        ("group_size", json!({ "group_size": null })),
        ("sym", json!({ "sym": "yes" })),
        ("quant_method", json!({ "quant_method": "hqq" })),
    ];
    for (field, change) in cases {
        let mut fields = json!({ "quant_method": "gptq", "bits": 4, "group_size": 128 });
        for (key, value) in change.as_object().unwrap() {
            fields[key] = value.clone();
        }
        let error = config(fields).unwrap_err().to_string();
        assert!(error.contains(&format!("`quantization_config.{field}`")), "{change}: {error}");
    }
    let older = json!({ "quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM" });
    assert_eq!(config(older).unwrap().group_size, Some(64));
    let skips = json!({ "quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": true,
                        "dynamic": { "-:.*head.*": {} } });
    assert!(config(skips).unwrap().desc_act);
}
