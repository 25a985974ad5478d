//! What other programs wrote, mutated: no panic, no hang, no memory that a made-up number asks for.
//!
//! docs/contributing.md, "Fuzzing", has the variables for longer runs.

mod memory_source;

use std::path::Path;

use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig,
};
use lightglm_quant::formats::gptq_awq::{GptqAwqCheckpoint, GptqAwqConfig};
use lightglm_quant::formats::{FormatError, GGUF_BLOCK_TYPES, ImportedCheckpoint, import_gguf};
use lightglm_testkit::fuzz::{Fuzzer, fingerprint};
use memory_source::MemorySource;
use serde_json::{Value, json};

/// Address space that one run may grow by: far below what a made-up length asks for.
const MEMORY_GROWTH: u64 = 8 << 30;

fn fuzz(name: &str, seeds: Vec<Vec<u8>>, tokens: &[&str], target: impl FnMut(&[u8]) -> u64) {
    let mut fuzzer = Fuzzer::new(name);
    assert!(!seeds.is_empty());
    fuzzer.seeds = seeds;
    fuzzer.dictionary = tokens.iter().map(|token| token.as_bytes().to_vec()).collect();
    fuzzer.max_memory_growth = Some(MEMORY_GROWTH);
    let report = fuzzer.run(target).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.outcomes > 1, "the mutations of {name} all looked alike: {report:?}");
    println!("{name}: {report:?}");
}

fn golden_file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

#[test]
fn quantization_config() {
    let golden: Value = serde_json::from_slice(&golden_file("compressed_tensors.json")).unwrap();
    let configs = golden["configs"].as_object().unwrap().values();
    let seeds = configs.map(|config| config.to_string().into_bytes()).collect();
    let tokens = [
        "null",
        "true",
        "false",
        "-1",
        "0",
        "4",
        "128",
        "1e400",
        "18446744073709551615",
        "\"\"",
        "[]",
        "{}",
        "\"re:.*(a+)+$\"",
        "\"re:(?!x)(?<y>.)\\\\1{99}\"",
        "\"group\"",
        "\"channel\"",
        "\"tensor\"",
        "\"mixed-precision\"",
        "\"actorder\":",
        "\"targets\":",
        "\"format\":",
    ];
    fuzz("quantization_config", seeds, &tokens, |input| {
        match CompressedTensorsConfig::from_config_json(input) {
            Ok(None) => 0,
            Ok(Some(config)) => {
                let names = ["lm_head", "model.layers.0.mlp.down_proj", "model.embed_tokens"];
                names.iter().filter(|name| config.group_of(name).is_some()).count() as u64 + 1
            }
            Err(error) => fingerprint(&format_args!("{error}")),
        }
    });
}

/// The layer `layer` of `source`, of which the names and shapes are asked first; what it was taken for.
fn layer(source: Result<impl ImportedCheckpoint, FormatError>) -> u64 {
    let layer = source.and_then(|source| {
        for name in source.names() {
            source.shape(&name);
        }
        source.layer("layer")
    });
    match layer {
        Ok(layer) => {
            assert_eq!(layer.matrix.check(), Ok(()));
            2 + layer.matrix.bits.count() as u64
        }
        Err(error) => fingerprint(&format_args!("{error}")),
    }
}

/// A line of JSON, the configuration and the tensors' dtypes and shapes; behind it their bytes.
#[test]
fn compressed_layers() {
    let golden: Value = serde_json::from_slice(&golden_file("compressed_tensors.json")).unwrap();
    let source = MemorySource::of_safetensors(&golden_file("compressed_tensors.safetensors"));
    let mut seeds = Vec::new();
    for (name, config) in golden["configs"].as_object().unwrap() {
        let (mut tensors, mut bytes) = (Vec::new(), Vec::new());
        for (tensor, stored) in &source.0 {
            let Some(part) = tensor.strip_prefix(&format!("{name}.")) else { continue };
            if part != "dequantized" {
                let begin = bytes.len();
                bytes.extend(stored.parts.iter().flatten());
                tensors.push(json!([part, stored.dtype, stored.shape, begin, bytes.len()]));
            }
        }
        let head = json!({"config": config["quantization_config"], "tensors": tensors});
        seeds.push([head.to_string().as_bytes(), b"\n", &bytes].concat());
    }
    fuzz("compressed_layers", seeds, &LAYER_TOKENS, |input| {
        let Some((config, source)) = fuzzed_layer(input) else { return 0 };
        let config = CompressedTensorsConfig::from_value(&config);
        layer(config.map(|config| CompressedTensorsCheckpoint::new(&source, config, "fuzzed")))
    });
}

/// As `compressed_layers`, of GPTQ and AWQ.
#[test]
fn gptq_and_awq_layers() {
    let config = |method: &str, bits: usize| json!({ "quant_method": method, "bits": bits, "group_size": 16, "sym": false });
    // Of 8 outputs and 32 inputs.
    let seed = |config: Value, qweight: [usize; 2], zeros: usize| {
        let parts = [
            ("qweight", "I32", qweight.to_vec()),
            ("qzeros", "I32", vec![2, zeros]),
            ("scales", "F32", vec![2, 8]),
            ("g_idx", "I32", vec![32]),
        ];
        let (mut tensors, mut bytes) = (Vec::new(), Vec::new());
        for (part, dtype, shape) in parts {
            let begin = bytes.len();
            let count = shape.iter().product::<usize>();
            match part {
                "g_idx" => (0..count).for_each(|at| bytes.extend((at as i32 / 16).to_le_bytes())),
                _ => bytes.extend([0x3c].repeat(4 * count)),
            }
            tensors.push(json!([part, dtype, shape, begin, bytes.len()]));
        }
        let head = json!({ "config": config, "tensors": tensors });
        [head.to_string().as_bytes(), b"\n", &bytes].concat()
    };
    let seeds = vec![
        seed(config("gptq", 4), [4, 8], 1),
        seed(config("gptq", 8), [8, 8], 2),
        seed(config("awq", 4), [32, 1], 1),
    ];
    fuzz("gptq_and_awq_layers", seeds, &LAYER_TOKENS, |input| {
        let Some((config, source)) = fuzzed_layer(input) else { return 0 };
        let config = GptqAwqConfig::from_value(&config);
        layer(config.map(|config| GptqAwqCheckpoint::new(&source, config, "fuzzed")))
    });
}

const LAYER_TOKENS: [&str; 8] =
    ["0", "1", "-1", "18446744073709551615", "4294967296", "\"I8\"", "\"I32\"", "\"BF16\""];

/// The configuration and the tensors of an input.
fn fuzzed_layer(input: &[u8]) -> Option<(Value, MemorySource)> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    let (head, bytes) = (&input[..at], &input[at + 1..]);
    let head = serde_json::from_slice::<Value>(head).ok()?;
    let mut source = MemorySource::default();
    for tensor in head["tensors"].as_array().into_iter().flatten() {
        let number = |value: &Value| value.as_u64().map(|n| n as usize);
        let (Some(part), Some(dtype)) = (tensor[0].as_str(), tensor[1].as_str()) else {
            continue;
        };
        let (Some(begin), Some(end)) = (number(&tensor[3]), number(&tensor[4])) else {
            continue;
        };
        let Some(bytes) = bytes.get(begin..end) else { continue };
        let shape = tensor[2].as_array().into_iter().flatten().filter_map(number);
        let shape: Vec<usize> = shape.collect();
        source.put(&format!("layer.{part}"), dtype, &shape, [bytes.to_vec()]);
    }
    Some((head["config"].clone(), source))
}

/// The type's place in the list, rows, columns in units of 8, a place to tear the tensor; blocks.
#[test]
fn gguf_blocks() {
    let seed = |i: usize| {
        let columns = if GGUF_BLOCK_TYPES[i].contains("_K") { 256 } else { 32 } / 8;
        [&[i as u8, 2, columns as u8, 0][..], &[0x3c; 512]].concat()
    };
    let seeds = (0..GGUF_BLOCK_TYPES.len()).map(seed).collect();
    fuzz("gguf_blocks", seeds, &[], |input| {
        let Some((head, bytes)) = input.split_at_checked(4) else { return 0 };
        let dtype = GGUF_BLOCK_TYPES[usize::from(head[0]) % GGUF_BLOCK_TYPES.len()];
        let shape = [usize::from(head[1]), usize::from(head[2]) * 8];
        // Half of the inputs have as many bytes as they should.
        let (elements, size) = match dtype {
            "Q4_0" => (32, 18),
            "Q8_0" => (32, 34),
            "Q4_K" => (256, 144),
            "Q6_K" => (256, 210),
            _ => (32, 20),
        };
        let mut bytes = bytes.to_vec();
        if head[3] < 128 {
            bytes.resize(shape[0] * shape[1] / elements * size, head[3]);
        }
        let tear = usize::from(head[3] % 128) * size;
        let parts = match tear {
            0 => vec![bytes],
            tear => bytes.chunks(tear).map(<[u8]>::to_vec).collect(),
        };
        let mut source = MemorySource::default();
        source.put("tensor", dtype, &shape, parts);
        match import_gguf(&source, "tensor") {
            Ok(matrix) => {
                assert_eq!(matrix.check(), Ok(()));
                assert_eq!(matrix.dequantize().len(), shape[0] * shape[1]);
                u64::from(head[0]) % 10
            }
            Err(error) => fingerprint(&format_args!("{error}")),
        }
    });
}
