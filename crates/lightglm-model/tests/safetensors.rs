//! Safetensors: reading, indexes, writing, and files that lie.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lightglm_core::{TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::weights::{
    SafetensorsCheckpoint, SafetensorsWriter, SeededWeights, TensorSpec, check_tensors,
    parse_safetensors_header, save_safetensors, write_random_checkpoint,
};
use tempfile::{TempDir, tempdir};

/// A file with the given header and `data` zero bytes after it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn parse(bytes: &[u8]) -> Result<usize, WeightError> {
    parse_safetensors_header(bytes, Path::new("x.safetensors")).map(|header| header.tensors.len())
}

fn open_bytes(bytes: &[u8]) -> Result<SafetensorsCheckpoint, WeightError> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    SafetensorsCheckpoint::open(folder.path())
}

/// A folder with a random checkpoint of `config`.
fn checkpoint(config: &GlmConfig, dtype: WeightDtype, shard_bytes: Option<u64>) -> TempDir {
    let folder = tempdir().unwrap();
    let progress = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), config, dtype, 7, shard_bytes, progress).unwrap();
    folder
}

fn fixtures() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var("LIGHTGLM_SHARED").unwrap_or_else(|_| beside.into());
    let folder = PathBuf::from(root).join("fixtures");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn headers_that_lie_are_malformed() {
    let tensor = |rest: &str| format!(r#"{{"a": {{"dtype": "F32", {rest}}}}}"#);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("seven bytes", vec![0; 7]),
        ("header past the end", 100u64.to_le_bytes().to_vec()),
        ("header of 2^64 - 1", u64::MAX.to_le_bytes().to_vec()),
        ("no JSON", file("{", 0)),
        ("a list", file("[]", 0)),
        ("no UTF-8", [&2u64.to_le_bytes()[..], b"\xff\xfe"].concat()),
        ("too little data", file(&tensor(r#""shape": [2], "data_offsets": [0, 8]"#), 7)),
        ("too much data", file(&tensor(r#""shape": [2], "data_offsets": [0, 8]"#), 9)),
        ("wrong length", file(&tensor(r#""shape": [3], "data_offsets": [0, 8]"#), 8)),
        ("a hole in front", file(&tensor(r#""shape": [2], "data_offsets": [4, 12]"#), 12)),
        ("backwards", file(&tensor(r#""shape": [0], "data_offsets": [8, 0]"#), 8)),
        ("negative shape", file(&tensor(r#""shape": [-2], "data_offsets": [0, 8]"#), 8)),
        ("negative offset", file(&tensor(r#""shape": [2], "data_offsets": [-8, 0]"#), 8)),
        (
            "shape overflows",
            file(&tensor(r#""shape": [4294967296, 4294967296], "data_offsets": [0, 0]"#), 0),
        ),
        (
            "unknown dtype",
            file(r#"{"a": {"dtype": "Q4", "shape": [0], "data_offsets": [0, 0]}}"#, 0),
        ),
        (
            "overlap",
            file(
                r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}"#,
                12,
            ),
        ),
        (
            "a name twice",
            file(
                r#"{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
                    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#,
                8,
            ),
        ),
        (
            "an empty name twice",
            file(
                r#"{"": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#,
                8,
            ),
        ),
    ];
    for (what, bytes) in cases {
        let error = parse(&bytes).expect_err(what);
        assert!(matches!(error, WeightError::Malformed { format: "safetensors", .. }), "{what}");
        assert!(error.to_string().starts_with("x.safetensors: "), "{error}");
    }
}

/// Nine tensors that end at 2^64 - 1: adding the header's length to that would overflow.
#[test]
fn lengths_that_overflow_are_malformed() {
    let each = (1u64 << 61) - 1;
    let ends: Vec<u64> = (0..=8).map(|i| i * each).chain([u64::MAX]).collect();
    let entries: Vec<String> = ends
        .windows(2)
        .map(|pair| {
            let (begin, end) = (pair[0], pair[1]);
            let shape = end - begin;
            format!(r#""t{begin}": {{"dtype": "U8", "shape": [{shape}], "data_offsets": [{begin}, {end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(", "));
    let error = parse(&file(&header, 16)).unwrap_err();
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
}

#[test]
fn unread_dtypes_are_refused_by_name() {
    let bytes = file(r#"{"w": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}"#, 4);
    let checkpoint = open_bytes(&bytes).unwrap();
    assert_eq!(checkpoint.shape("w"), Some(vec![4]));
    let error = checkpoint.tensor("w").unwrap_err();
    assert!(
        matches!(error, WeightError::UnsupportedDtype { ref name, ref dtype, .. } if name == "w" && dtype == "I8"),
        "{error}"
    );
    assert!(
        matches!(checkpoint.tensor("v"), Err(WeightError::Missing { ref name, .. }) if name == "v")
    );
}

#[test]
fn truncated_and_changed_files_never_panic() {
    let folder = checkpoint(&GlmConfig::tiny(), WeightDtype::Bf16, None);
    let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
    assert!(parse(&bytes).is_ok());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for end in (0..header).chain([header + 1, bytes.len() - 1]) {
        assert!(parse(&bytes[..end]).is_err(), "cut to {end}");
    }
    let mut state = 1u64;
    for _ in 0..5000 {
        let mut changed = bytes.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            changed[(state >> 33) as usize % header] = (state >> 24) as u8;
        }
        if let Ok(parsed) = parse_safetensors_header(&changed, Path::new("x")) {
            assert!(parsed.tensors.values().all(|t| t.range.end <= changed.len()));
        }
    }
}

/// Writes an index beside one shard `shard.safetensors` with the tensor `a`, and opens the folder.
fn open_index(index: &str) -> Result<SafetensorsCheckpoint, WeightError> {
    let folder = tempdir().unwrap();
    let shard = file(r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#, 8);
    fs::write(folder.path().join("shard.safetensors"), shard).unwrap();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    SafetensorsCheckpoint::open(folder.path())
}

#[test]
fn indexes_are_not_trusted() {
    assert!(open_index(r#"{"weight_map": {"a": "shard.safetensors"}}"#).is_ok());
    let escapes = [
        "/etc/passwd",
        "../shard.safetensors",
        "..",
        ".",
        "",
        "a/b",
        "a\\\\b",
        "C:x",
        "./shard.safetensors",
    ];
    for shard in escapes {
        let error = open_index(&format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#)).unwrap_err();
        assert!(
            matches!(error, WeightError::ShardEscapes { ref name, .. } if name == "a"),
            "{error}"
        );
    }
    let missing =
        open_index(r#"{"weight_map": {"a": "shard.safetensors", "b": "shard.safetensors"}}"#);
    assert!(matches!(missing, Err(WeightError::Missing { ref name, .. }) if name == "b"));
    let no_file = open_index(r#"{"weight_map": {"a": "other.safetensors"}}"#);
    assert!(matches!(no_file, Err(WeightError::Io { .. })));
    let malformed = [
        "",
        "[]",
        "{}",
        r#"{"weight_map": []}"#,
        r#"{"weight_map": {"a": 1}}"#,
        r#"{"weight_map": {"a": null}}"#,
        r#"{"weight_map": {"a": "shard.safetensors", "a": "shard.safetensors"}}"#,
        r#"{"weight_map": {}, "weight_map": {"a": "shard.safetensors"}}"#,
    ];
    for index in malformed {
        let error = open_index(index).expect_err(index);
        assert!(
            matches!(error, WeightError::Malformed { format: "safetensors index", .. }),
            "{error}"
        );
    }
}

#[test]
fn a_tensor_in_two_shards_is_malformed() {
    let folder = tempdir().unwrap();
    let shard = file(r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#, 8);
    let both = file(
        r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#,
        8,
    );
    fs::write(folder.path().join("1.safetensors"), shard).unwrap();
    fs::write(folder.path().join("2.safetensors"), both).unwrap();
    let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let error = SafetensorsCheckpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, WeightError::Malformed { .. }), "{error}");
}

#[test]
fn a_written_checkpoint_reads_back() {
    for (dtype, tied) in
        [(WeightDtype::F32, false), (WeightDtype::F16, true), (WeightDtype::Bf16, false)]
    {
        let config = GlmConfig { tie_word_embeddings: tied, ..GlmConfig::tiny() };
        let weights = SeededWeights::new(config.clone(), dtype, 7);
        for shard_bytes in [None, Some(40_000), Some(1)] {
            let folder = checkpoint(&config, dtype, shard_bytes);
            let parsed = GlmConfig::from_file(folder.path().join("config.json")).unwrap();
            assert_eq!(GlmConfig { dtype: config.dtype.clone(), ..parsed.clone() }, config);
            let read = SafetensorsCheckpoint::open(folder.path()).unwrap();
            check_tensors(&read, &parsed, read.path()).unwrap();
            assert_eq!(read.names(), weights.names());
            for name in read.names() {
                let (read, seeded) = (read.tensor(&name).unwrap(), weights.tensor(&name).unwrap());
                assert_eq!((read.dtype, &read.shape), (dtype, &seeded.shape), "{name}");
                assert_eq!(read.bytes, seeded.bytes, "{name}");
            }
            let partial = fs::read_dir(folder.path()).unwrap().filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial")
            });
            assert_eq!(partial.count(), 0);
        }
    }
}

#[test]
fn a_checkpoint_replaces_the_one_before() {
    let config = GlmConfig::tiny();
    let folder = tempdir().unwrap();
    for (seed, shard_bytes) in [(1, None), (2, Some(40_000)), (3, None)] {
        let progress = &mut |_| ControlFlow::Continue(());
        let dtype = WeightDtype::Bf16;
        write_random_checkpoint(folder.path(), &config, dtype, seed, shard_bytes, progress)
            .unwrap();
        let read = SafetensorsCheckpoint::open(folder.path()).unwrap();
        let seeded = SeededWeights::new(config.clone(), dtype, seed);
        let name = "model.layers.1.mlp.down_proj.weight";
        assert_eq!(read.tensor(name).unwrap().bytes, seeded.tensor(name).unwrap().bytes);
    }
}

#[test]
fn an_interrupted_checkpoint_leaves_nothing() {
    let folder = tempdir().unwrap();
    for shard_bytes in [None, Some(40_000)] {
        let mut calls = 0;
        let progress = &mut |_| {
            calls += 1;
            if calls < 12 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let (config, dtype) = (GlmConfig::tiny(), WeightDtype::F32);
        let result =
            write_random_checkpoint(folder.path(), &config, dtype, 1, shard_bytes, progress);
        assert!(
            matches!(result, Err(WeightError::Io { source, .. }) if source.kind() == std::io::ErrorKind::Interrupted)
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn tensors_are_aligned() {
    let folder = checkpoint(&GlmConfig::tiny(), WeightDtype::Bf16, None);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = parse_safetensors_header(&bytes, &path).unwrap();
    assert!(header.tensors.values().all(|tensor| tensor.range.start % 64 == 0));
    assert_eq!(header.metadata["format"], "pt");
    // A size that is no multiple of 64 must not push the others off.
    let specs = [("odd", 3), ("even", 32), ("odder", 5), ("half", 16)].map(|(name, n)| {
        TensorSpec { name: name.into(), dtype: WeightDtype::Bf16.into(), shape: vec![n] }
    });
    let mut writer = SafetensorsWriter::create(&path, specs, &BTreeMap::new()).unwrap();
    let order: Vec<_> = writer.order().iter().map(|spec| spec.name.clone()).collect();
    assert_eq!(order, ["even", "half", "odd", "odder"]);
    writer.write(&[0; 112]).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    let header = parse_safetensors_header(&bytes, &path).unwrap();
    assert_eq!(header.tensors["even"].range.start % 64, 0);
    assert_eq!(header.tensors["half"].range.start % 32, 0);
}

#[test]
fn the_writer_counts_its_bytes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let spec = TensorSpec { name: "w".into(), dtype: WeightDtype::F32.into(), shape: vec![2] };
    let create = |specs: Vec<TensorSpec>| SafetensorsWriter::create(&path, specs, &BTreeMap::new());
    let mut writer = create(vec![spec.clone()]).unwrap();
    assert!(writer.write(&[0; 9]).is_err());
    writer.write(&[0; 4]).unwrap();
    assert!(writer.finish().is_err());
    assert!(create(vec![spec.clone(), spec.clone()]).is_err());
    let huge = TensorSpec { shape: vec![usize::MAX, 2], ..spec };
    assert!(create(vec![huge]).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_source_is_saved_as_it_is() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("copy.safetensors");
    let weights = SeededWeights::new(GlmConfig::tiny(), WeightDtype::F16, 3);
    save_safetensors(&path, &weights, &BTreeMap::new()).unwrap();
    let copy = SafetensorsCheckpoint::open(&path).unwrap();
    assert_eq!(copy.names(), weights.names());
    for name in copy.names() {
        assert_eq!(copy.tensor(&name).unwrap().bytes, weights.tensor(&name).unwrap().bytes);
    }
}

#[test]
fn seeds_and_names_make_different_weights() {
    let config = GlmConfig { vocab_size: 2048, ..GlmConfig::tiny() };
    let weights = |seed| SeededWeights::new(config.clone(), WeightDtype::F32, seed);
    let values = |seed, name: &str| -> Vec<f32> {
        let view = weights(seed).tensor(name).unwrap();
        view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let (a, b) = (values(1, "lm_head.weight"), values(2, "lm_head.weight"));
    assert_eq!(a, values(1, "lm_head.weight"));
    assert_ne!(a, b);
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one_thread.install(|| values(1, "lm_head.weight")), a);
    // 131,072 values: the moments are within a hundredth.
    let moment = |v: &[f32], power: i32| {
        v.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / v.len() as f64
    };
    let scale = 1.0 / 64f64.sqrt();
    assert!(moment(&a, 1).abs() < 0.01 * scale);
    assert!((moment(&a, 2).sqrt() / scale - 1.0).abs() < 0.01);
    let product: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum();
    assert!((product / a.len() as f64).abs() < 0.01 * scale * scale);
    let norm = values(1, "model.norm.weight");
    assert!(norm.iter().all(|x| (x - 1.0).abs() < 0.1));
}

type ShapeMap = BTreeMap<String, Vec<usize>>;

/// A weight source of shapes without weights.
struct Shapes(ShapeMap);

impl WeightSource for Shapes {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).cloned()
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        Err(WeightError::Missing { file: "shapes".into(), name: name.into() })
    }
}

#[test]
fn tensors_are_checked_against_the_configuration() {
    let file = Path::new("m");
    for model_type in [ModelType::Glm, ModelType::Glm4] {
        let config = GlmConfig { model_type, ..GlmConfig::tiny() };
        let shapes: BTreeMap<_, _> = config.tensor_shapes().into_iter().collect();
        for (name, shape) in &shapes {
            assert_eq!(config.tensor_shape(name).as_ref(), Some(shape));
        }
        let check = |change: &dyn Fn(&mut ShapeMap)| {
            let mut shapes = shapes.clone();
            change(&mut shapes);
            check_tensors(&Shapes(shapes), &config, file)
        };
        check(&|_| ()).unwrap();
        check(&|s| drop(s.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), vec![4])))
            .unwrap();
        let norm = "model.norm.weight";
        let missing = check(&|s| drop(s.remove(norm)));
        assert!(matches!(missing, Err(WeightError::Missing { name, .. }) if name == norm));
        let wrong = check(&|s| drop(s.insert(norm.into(), vec![63])));
        assert!(
            matches!(wrong, Err(WeightError::ShapeMismatch { name, actual, .. }) if name == norm && actual == [63])
        );
        let extra = "model.layers.2.input_layernorm.weight";
        let more = check(&|s| drop(s.insert(extra.into(), vec![64])));
        assert!(matches!(more, Err(WeightError::Unexpected { names, .. }) if names == [extra]));
    }
    for name in
        ["model.layers.00.input_layernorm.weight", "model.layers.2.x", "model.layers.+1.x", ""]
    {
        assert_eq!(GlmConfig::tiny().tensor_shape(name), None);
    }
}

#[test]
fn fixtures_fit_their_configurations() {
    let Some(folder) = fixtures() else { return };
    for model in ["glm", "glm4", "glm4_nobias", "glm4_tied"] {
        let folder = folder.join(model);
        let config = GlmConfig::from_file(folder.join("config.json")).unwrap();
        let checkpoint = SafetensorsCheckpoint::open(&folder).unwrap();
        check_tensors(&checkpoint, &config, &folder).unwrap();
        let bytes: usize = checkpoint
            .names()
            .iter()
            .map(|name| checkpoint.tensor(name).unwrap().bytes.len())
            .sum();
        assert_eq!(bytes as u64, 4 * config.num_parameters(), "{model}");
    }
}
