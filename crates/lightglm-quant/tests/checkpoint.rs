//! Quantized checkpoints: what is saved is what is loaded, and what is wrong is said.

mod table_source;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::DType;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LoadPart, PartSource, QUANTIZATION_KEY, WeightError, WeightSource};
use lightglm_kernels::{PackedMatrix, PackingError, QuantizedMatrix};
use lightglm_quant::{
    CheckpointQuantizer, HostMatrix, MatrixWeight, PackedFileError, Policy, PolicyError,
    QuantError, QuantizedCheckpoint, round_to_nearest,
};
use table_source::TableSource;

const TENSORS: [(&str, &[usize]); 6] = [
    ("model.embed_tokens.weight", &[50, 72]),
    ("model.layers.0.mlp.down_proj.weight", &[72, 136]),
    ("model.layers.0.self_attn.q_proj.weight", &[33, 72]),
    ("model.layers.0.self_attn.q_proj.bias", &[33]),
    ("model.norm.weight", &[72]),
    ("lm_head.weight", &[50, 72]),
];

const POLICY: &str = "lm_head=dense,*.down_proj=int4wo-g32-zp,*=int8";

fn source() -> TableSource {
    TableSource::random(&TENSORS, 11)
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    TENSORS.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
}

fn matrices() -> Vec<(String, [usize; 2])> {
    let matrix = |(name, shape): (String, Vec<usize>)| {
        Some((name.strip_suffix(".weight")?.to_owned(), shape.try_into().ok()?))
    };
    tensors().into_iter().filter_map(matrix).collect()
}

fn saved(policy: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let policy: Policy = policy.parse().unwrap();
    CheckpointQuantizer::new(&source(), Path::new("table"), &policy)
        .save(&file, &tensors())
        .unwrap();
    (folder, file)
}

/// Codes, scales and minimums as they lie in memory.
fn parts(packed: &PackedMatrix<Flex>) -> Vec<Vec<u8>> {
    assert_eq!(packed.codes.val().dtype(), DType::U8);
    let mut parts = vec![packed.codes.val().into_data().bytes.to_vec()];
    for values in [Some(&packed.scales), packed.minimums.as_ref()].into_iter().flatten() {
        parts.push(values.val().into_data().bytes.to_vec());
    }
    parts
}

fn same(a: &MatrixWeight<Flex>, b: &MatrixWeight<Flex>) -> bool {
    match (a, b) {
        (MatrixWeight::Packed(a), MatrixWeight::Packed(b)) => {
            a.format() == b.format() && a.shape() == b.shape() && parts(a) == parts(b)
        }
        (MatrixWeight::Dense(a), MatrixWeight::Dense(b)) => {
            a.val().into_data().bytes == b.val().into_data().bytes && a.dtype() == b.dtype()
        }
        _ => false,
    }
}

#[test]
fn what_is_loaded_is_what_quantizing_in_memory_gives() {
    for policy in [POLICY, "int8", "int4", "w8a8", "int4wo-g64", "dense"] {
        let (_folder, file) = saved(policy);
        let (dense, policy) = (source(), policy.parse().unwrap());
        let in_memory = CheckpointQuantizer::new(&dense, Path::new("table"), &policy);
        // At any alignment.
        for shift in [0, 1, 2] {
            let stored = TableSource::read(&file, shift);
            assert!(QuantizedCheckpoint::is_one(&stored));
            let checkpoint = QuantizedCheckpoint::open(&stored, &file).unwrap();
            assert_eq!(checkpoint.index().policy(), policy.to_string());
            for (name, shape) in matrices() {
                let ours = PartSource::<Flex>::linear(
                    &in_memory,
                    &LoadPart::new(&*name, shape),
                    &FlexDevice,
                )
                .unwrap();
                let theirs = PartSource::<Flex>::linear(
                    &checkpoint,
                    &LoadPart::new(&*name, shape),
                    &FlexDevice,
                )
                .unwrap();
                assert!(same(&ours.weight, &theirs.weight), "{name} differs");
            }
            let name = "model.layers.0.self_attn.q_proj";
            let ours = PartSource::<Flex>::linear(
                &in_memory,
                &LoadPart::new(name, [33, 72]).with_bias(true),
                &FlexDevice,
            )
            .unwrap();
            let theirs = PartSource::<Flex>::linear(
                &checkpoint,
                &LoadPart::new(name, [33, 72]).with_bias(true),
                &FlexDevice,
            )
            .unwrap();
            let bias = |bias: Option<burn::module::Param<burn::tensor::Tensor<Flex, 1>>>| {
                bias.unwrap().val().into_data().to_vec::<f32>().unwrap()
            };
            assert_eq!(bias(ours.bias), bias(theirs.bias));
            let norm = |source: &TableSource| source.tensor("model.norm.weight").unwrap().bytes;
            assert_eq!(norm(&dense), norm(&stored));
        }
    }
}

#[test]
fn blocks_of_rows_make_the_whole_matrix() {
    // More rows than a block has panels: 1024 rows of 1024 columns a block.
    let shape = [2100, 1024];
    let source = TableSource::random(&[("p.weight", &shape)], 3);
    let policy: Policy = "int4wo-g32-zp".parse().unwrap();
    let quantizer = CheckpointQuantizer::new(&source, Path::new("table"), &policy);
    let lightglm_quant::Scheme::Quantized(scheme) = policy.scheme("p") else { panic!() };
    let view = source.tensor("p.weight").unwrap();
    let weight: Vec<f32> = view
        .bytes
        .chunks_exact(2)
        .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect();
    let whole: QuantizedMatrix = round_to_nearest("p", &weight, shape, &scheme.weight).unwrap();
    let HostMatrix::Packed(packed) = quantizer.matrix("p", shape).unwrap() else { panic!() };
    let unpacked = packed.clone().into_matrix::<Flex>(&FlexDevice).unwrap().unpack();
    assert_eq!(unpacked.codes, whole.codes);
    let at_once = PackedMatrix::<Flex>::pack(
        &whole,
        packed.format.scale_dtype,
        packed.format.activation,
        &FlexDevice,
    );
    let in_blocks = packed.clone().into_matrix::<Flex>(&FlexDevice).unwrap();
    assert_eq!(parts(&in_blocks), parts(&at_once.unwrap()));
    // As a method of one's own, which sees the matrix whole.
    let method = |dense: &lightglm_quant::DenseMatrix<'_>| {
        assert_eq!(dense.weight, weight);
        round_to_nearest(dense.name, dense.weight, dense.shape, &dense.scheme.weight)
    };
    let HostMatrix::Packed(other) = quantizer.with_method(&method).matrix("p", shape).unwrap()
    else {
        panic!()
    };
    assert!(other == packed);
}

#[test]
fn a_method_must_return_what_was_asked_for() {
    let (source, policy) = (source(), "int8".parse().unwrap());
    let method = |dense: &lightglm_quant::DenseMatrix<'_>| {
        let other = lightglm_quant::WeightScheme { symmetric: false, ..dense.scheme.weight };
        round_to_nearest(dense.name, dense.weight, dense.shape, &other)
    };
    let quantizer =
        CheckpointQuantizer::new(&source, Path::new("table"), &policy).with_method(&method);
    let error = quantizer.matrix("lm_head", [50, 72]).unwrap_err();
    assert!(
        matches!(error, QuantError::OtherFormat { ref name, .. } if name == "lm_head"),
        "{error}"
    );
}

#[test]
fn breaking_off_leaves_nothing_behind() {
    let (source, policy) = (source(), POLICY.parse().unwrap());
    let total: u64 =
        tensors().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
    let done = AtomicU64::new(0);
    for limit in [0, 5000, total] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        done.store(0, Ordering::Relaxed);
        let progress = |weights| match done.fetch_add(weights, Ordering::Relaxed) + weights > limit
        {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let quantizer = CheckpointQuantizer::new(&source, Path::new("table"), &policy);
        let saved = quantizer.with_progress(&progress).save(&file, &tensors());
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        match saved {
            Ok(()) => assert_eq!((left, limit, done.load(Ordering::Relaxed)), (1, total, total)),
            Err(QuantError::Interrupted { .. }) => assert!(left == 0 && limit < total),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let source = source();
    let error = |policy: &str, source: &TableSource| {
        let folder = tempfile::tempdir().unwrap();
        let policy: Policy = policy.parse().unwrap();
        let quantizer = CheckpointQuantizer::new(source, Path::new("table"), &policy);
        let error = quantizer.save(&folder.path().join("m.safetensors"), &tensors()).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{error}");
        error
    };
    match error("*.down_proj=w8a8-g24-ag64,*=int8", &source) {
        QuantError::Layer { name, source } => {
            assert_eq!(name, "model.layers.0.mlp.down_proj");
            assert!(matches!(source, PackingError::ActivationGroupSize { .. }));
        }
        other => panic!("{other}"),
    }
    let unmatched = error("*.up_proj=int8,*=int4", &source);
    assert!(matches!(unmatched, QuantError::Policy(PolicyError::NoSuchMatrix { .. })));
    // A NaN in row 40 of the head, which the error names.
    let mut broken = source.clone();
    let head = broken.tensors.get_mut("lm_head.weight").unwrap();
    let mut bytes = head.parts[0].to_vec();
    bytes[(40 * 72 + 5) * 2..][..2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    head.parts = vec![bytes.into()];
    match error("int8", &broken) {
        QuantError::NotFinite { name, row, column, value } => {
            assert_eq!((name.as_str(), row, column), ("lm_head", 40, 5));
            assert!(value.is_nan());
        }
        other => panic!("{other}"),
    }
    let mut missing = source.clone();
    missing.tensors.remove("lm_head.weight");
    let missing = error("int8", &missing);
    assert!(
        matches!(missing, QuantError::Weights(WeightError::Missing { ref name, .. }) if name == "lm_head.weight")
    );
}

/// What loading the matrix `name` from the checkpoint, changed by `change`, says.
fn broken(change: impl FnOnce(&mut TableSource), name: &str, shape: [usize; 2]) -> QuantError {
    let (_folder, file) = saved(POLICY);
    let mut stored = TableSource::read(&file, 0);
    change(&mut stored);
    match QuantizedCheckpoint::open(&stored, Path::new("model.safetensors")) {
        Err(error) => error,
        Ok(checkpoint) => {
            PartSource::<Flex>::linear(&checkpoint, &LoadPart::new(name, shape), &FlexDevice)
                .unwrap_err()
        }
    }
}

#[test]
fn malformed_checkpoints_are_errors() {
    let down = ("model.layers.0.mlp.down_proj", [72, 136]);
    let edit = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |source: &mut TableSource| {
            let json = source.metadata.get_mut(QUANTIZATION_KEY).unwrap();
            assert!(json.contains(&from), "{json}");
            *json = json.replace(&from, &to);
        }
    };
    let file_error = |error: QuantError| match error {
        QuantError::PackedFile(error) => {
            assert!(error.to_string().starts_with("model.safetensors: "), "{error}");
            error
        }
        other => panic!("{other}"),
    };
    let index = |change: &dyn Fn(&mut TableSource)| file_error(broken(change, down.0, down.1));
    let gone = |source: &mut TableSource| drop(source.metadata.remove(QUANTIZATION_KEY));
    assert!(matches!(index(&gone), PackedFileError::NotQuantized { .. }));
    let version = index(&edit("\"version\":1", "\"version\":2"));
    assert!(matches!(version, PackedFileError::Version { ref version, .. } if version == "2"));
    let format = index(&edit("panels-32", "panels-64"));
    assert!(matches!(format, PackedFileError::Version { ref format, .. } if format == "panels-64"));
    let scheme = index(&edit("w4a16-g32-ag128-zp-f16", "w3a16"));
    assert!(matches!(scheme, PackedFileError::Index { .. }));
    assert!(scheme.to_string().contains("unknown scheme `w3a16`"), "{scheme}");
    let scheme = index(&edit("w4a16-g32-ag128-zp-f16", "w4a8-g24-ag128-zp-f16"));
    assert!(matches!(scheme, PackedFileError::Pack { ref name, .. } if name == down.0));
    for huge in ["[18446744073709551615,136]", "[4294967296,4294967296]", "[0,136]"] {
        let shape = index(&edit("[72,136]", huge));
        assert!(
            matches!(shape, PackedFileError::Matrix { ref name, .. } if name == down.0),
            "{shape}"
        );
    }
    let negative = index(&edit("[72,136]", "[-1,136]"));
    assert!(matches!(negative, PackedFileError::Index { .. }));
    let other = index(&edit("[72,136]", "[136,72]"));
    assert!(matches!(other, PackedFileError::Matrix { .. }), "{other}");
    let unknown = file_error(broken(|_| {}, "model.layers.1.mlp.down_proj", down.1));
    assert!(matches!(unknown, PackedFileError::Matrix { .. }));

    // A part of another type, another length, or not there.
    for part in ["codes", "scales", "minimums"] {
        let tensor = format!("{}.{part}", down.0);
        let changed = |change: &dyn Fn(&mut lightglm_core::StoredTensor)| {
            broken(|source| change(source.tensors.get_mut(&tensor).unwrap()), down.0, down.1)
        };
        let dtype = file_error(changed(&|stored| stored.dtype = "I8".into()));
        assert!(matches!(dtype, PackedFileError::Part { tensor: ref t, .. } if *t == tensor));
        let shape = file_error(changed(&|stored| stored.shape[0] += 1));
        assert!(matches!(shape, PackedFileError::Part { .. }));
        let short = changed(&|stored| drop(stored.parts[0].split_off(8)));
        assert!(matches!(file_error(short), PackedFileError::Part { .. }));
        let none = broken(|source| drop(source.tensors.remove(&tensor)), down.0, down.1);
        assert!(
            matches!(none, QuantError::Weights(WeightError::Missing { ref name, .. }) if *name == tensor)
        );
    }
}
