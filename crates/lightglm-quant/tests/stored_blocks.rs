//! A checkpoint's GGUF blocks, packed as they are stored: the bits of the `gguf` package's own
//! dequantization, whatever is stacked on what, and a file of them that is read back.

mod memory_source;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{LoadPart, PartSource, StoredTensor, TensorView, WeightError, WeightSource};
use lightglm_kernels::{PackedMatrix, PackingError};
use lightglm_quant::formats::GGUF_BLOCK_TYPES;
use lightglm_quant::{
    CheckpointQuantizer, HostMatrix, MatrixWeight, Policy, QuantError, QuantizedCheckpoint, Scheme,
};
use memory_source::MemorySource;

/// Matrices stacked by rows from tensors of any types. Nobody may ask it for floats.
#[derive(Default)]
struct Stacked(BTreeMap<String, Vec<StoredTensor>>);

impl Stacked {
    fn put(&mut self, name: &str, tensors: impl IntoIterator<Item = (&'static str, usize, usize)>) {
        let random = package_blocks();
        let tensor = |(dtype, rows, k): (&'static str, usize, usize)| {
            // Rows of the package's blocks, over and over.
            let blocks = random.0[&format!("{dtype}.blocks")].parts[0].to_vec();
            let bytes = rows * k / elements(dtype) * (blocks.len() / 4);
            let bytes: Vec<u8> = blocks.iter().copied().cycle().take(bytes).collect();
            StoredTensor { dtype: dtype.into(), shape: vec![rows, k], parts: vec![bytes.into()] }
        };
        self.0.insert(name.into(), tensors.into_iter().map(tensor).collect());
    }
}

impl WeightSource for Stacked {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let tensors = self.0.get(name)?;
        Some(vec![tensors.iter().map(|t| t.shape[0]).sum(), tensors[0].shape[1]])
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        panic!("`{name}` was to be widened")
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        panic!("`{name}` is asked for as one tensor")
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        let missing = || WeightError::Missing { file: "memory".into(), name: name.into() };
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

fn elements(dtype: &str) -> usize {
    if dtype.contains('K') || dtype == "IQ4_XS" { 256 } else { 32 }
}

/// `gguf_blocks.py` beside the data says how it was made: four random blocks of every type.
fn package_blocks() -> MemorySource {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = manifest.join("../lightglm-model/tests/data/gguf_blocks.safetensors");
    MemorySource::of_safetensors(&std::fs::read(file).unwrap())
}

/// What the package makes of the tensor that [`Stacked::put`] puts.
fn expected((dtype, rows, k): (&'static str, usize, usize)) -> Vec<f32> {
    package_blocks().f32s(&format!("{dtype}.values")).into_iter().cycle().take(rows * k).collect()
}

fn stored() -> Policy {
    Policy::new([]).unwrap()
}

fn packed(source: &Stacked, name: &str, shape: [usize; 2]) -> Option<PackedMatrix<Flex>> {
    let policy = stored();
    let quantizer = CheckpointQuantizer::new(source, Path::new("memory"), &policy);
    let linear =
        PartSource::<Flex>::linear(&quantizer, &LoadPart::new(name, shape), &FlexDevice).unwrap();
    match linear.weight {
        MatrixWeight::Packed(packed) => Some(packed),
        MatrixWeight::Dense(_) => None,
    }
}

fn assert_same(values: &[f32], expected: &[f32], what: &str) {
    assert_eq!(values.len(), expected.len(), "{what}");
    for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
        // A zero's sign is not ours to keep.
        let same = value.to_bits() == expected.to_bits() || (*value == 0.0 && *expected == 0.0);
        assert!(same, "{what} element {at}: {value:e}, expected {expected:e}");
    }
}

#[test]
fn every_type_keeps_its_values_to_the_bit() {
    for dtype in GGUF_BLOCK_TYPES {
        // More rows than a panel and no whole number of them.
        let tensor = (dtype, 75, 512);
        let mut source = Stacked::default();
        source.put("matrix.weight", [tensor]);
        let matrix = packed(&source, "matrix", [75, 512]).unwrap();
        assert_same(&matrix.unpack().dequantize(), &expected(tensor), dtype);
    }
}

#[test]
fn types_stacked_on_one_another_keep_their_values_to_the_bit() {
    for first in GGUF_BLOCK_TYPES {
        for second in GGUF_BLOCK_TYPES {
            let tensors = [(first, 21, 256), (second, 30, 256)];
            let mut source = Stacked::default();
            source.put("matrix.weight", tensors);
            let what = format!("{first} on {second}");
            let minimum = |dtype| matches!(dtype, "Q4_1" | "Q5_1" | "Q2_K" | "Q4_K" | "Q5_K");
            let lossy = [(first, second), (second, first)];
            if lossy.iter().any(|&(a, b)| a == "IQ4_XS" && minimum(b)) {
                continue;
            }
            let matrix = packed(&source, "matrix", [51, 256]).expect(&what);
            let expected: Vec<f32> = tensors.into_iter().flat_map(expected).collect();
            assert_same(&matrix.unpack().dequantize(), &expected, &what);
        }
    }
}

/// The matrices of a small file in the manner of Q4_K_M.
fn mixed() -> (Stacked, Vec<(String, Vec<usize>)>) {
    let mut source = Stacked::default();
    source.put("embed.weight", [("Q6_K", 70, 256)]);
    source.put("gate_up.weight", [("Q4_K", 48, 256), ("Q6_K", 48, 256)]);
    source.put("down.weight", [("Q5_0", 33, 96)]);
    let tensors = source.names().into_iter();
    let tensors = tensors.map(|name| (name.clone(), source.shape(&name).unwrap())).collect();
    (source, tensors)
}

#[test]
fn a_file_of_packed_blocks_is_read_back_as_it_was_packed() {
    let (source, tensors) = mixed();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let policy = stored();
    let quantizer = CheckpointQuantizer::new(&source, Path::new("memory"), &policy);
    quantizer.save(&file, &tensors).unwrap();
    let saved = MemorySource::of_safetensors(&std::fs::read(&file).unwrap());
    let index = safetensors_index(&file);
    let reopened = WithIndex { source: saved, index };
    let checkpoint = QuantizedCheckpoint::open(&reopened, &file).unwrap();
    for (tensor, shape) in tensors {
        let name = tensor.strip_suffix(".weight").unwrap();
        let shape: [usize; 2] = shape.try_into().unwrap();
        let part = LoadPart::new(name, shape);
        let read = PartSource::<Flex>::linear(&checkpoint, &part, &FlexDevice).unwrap();
        let MatrixWeight::Packed(read) = read.weight else { panic!("{name} is dense") };
        let ours = packed(&source, name, shape).unwrap();
        assert_eq!(read.format(), ours.format(), "{name}");
        assert_eq!(read.unpack(), ours.unpack(), "{name}");
        let Scheme::Quantized(scheme) = quantizer.scheme(name, shape).unwrap() else {
            panic!("{name} is dense")
        };
        assert_eq!(read.format(), &scheme.format(shape[1]).unwrap());
    }
}

struct WithIndex {
    source: MemorySource,
    index: String,
}

impl WeightSource for WithIndex {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        self.source.tensor(name)
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        self.source.stored(name)
    }

    fn metadata(&self, _: &str) -> Option<String> {
        Some(self.index.clone())
    }
}

fn safetensors_index(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()[lightglm_core::QUANTIZATION_KEY].clone()
}

#[test]
fn what_does_not_fit_is_named() {
    let mut source = Stacked::default();
    source.put("ragged.weight", [("Q4_K", 2, 256)]);
    source.0.get_mut("ragged.weight").unwrap()[0].shape[1] = 384;
    source.put("short.weight", [("Q8_0", 2, 32)]);
    source.0.get_mut("short.weight").unwrap()[0].shape[0] = 3;
    source.put("infinite.weight", [("Q8_0", 40, 32)]);
    let blocks = &mut source.0.get_mut("infinite.weight").unwrap()[0].parts[0];
    let mut bytes = blocks.to_vec();
    bytes[35 * 34..35 * 34 + 2].copy_from_slice(&[0, 0x7c]);
    *blocks = bytes.into();
    let policy = stored();
    let quantizer = CheckpointQuantizer::new(&source, Path::new("model.gguf"), &policy);
    let error = |name: &str, shape| quantizer.matrix(name, shape).unwrap_err().to_string();
    assert_eq!(
        error("ragged", [2, 384]),
        "model.gguf: malformed block-quantized tensor: `ragged.weight`: rows of 384 are no multiple \
         of the 256 elements of a Q4_K block"
    );
    assert_eq!(
        error("short", [3, 32]),
        "model.gguf: malformed block-quantized tensor: `short.weight`: 68 bytes of blocks instead of 102"
    );
    let wrong = quantizer.matrix("infinite", [40, 64]).unwrap_err();
    assert!(matches!(wrong, QuantError::Weights(WeightError::ShapeMismatch { .. })), "{wrong}");
    let QuantError::Layer { name, source: PackingError::NotFinite { part: "scales", .. } } =
        quantizer.matrix("infinite", [40, 32]).unwrap_err()
    else {
        panic!("an infinite scale was taken");
    };
    assert_eq!(name, "infinite");
    let gone = quantizer.matrix("gone", [1, 32]).unwrap_err();
    assert!(matches!(gone, QuantError::Weights(WeightError::Missing { .. })), "{gone}");
}

#[test]
fn packing_tells_how_far_it_is_and_can_be_stopped() {
    let (source, _) = mixed();
    let policy = stored();
    let done = std::sync::atomic::AtomicU64::new(0);
    let tell = |weights| {
        done.fetch_add(weights, std::sync::atomic::Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let quantizer =
        CheckpointQuantizer::new(&source, Path::new("memory"), &policy).with_progress(&tell);
    assert!(matches!(quantizer.matrix("embed", [70, 256]).unwrap(), HostMatrix::Packed(_)));
    assert_eq!(done.into_inner(), 70 * 256);
    let stop = |_| ControlFlow::Break(());
    let quantizer =
        CheckpointQuantizer::new(&source, Path::new("memory"), &policy).with_progress(&stop);
    let stopped = quantizer.matrix("embed", [70, 256]).unwrap_err();
    assert!(matches!(stopped, QuantError::Interrupted { .. }), "{stopped}");
}
