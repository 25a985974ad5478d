//! `Fixture`: a reference's inputs and outputs, where they are there.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

/// A folder of `shared/fixtures`, which lies beside the repository or under `LIGHTGLM_SHARED`.
#[derive(Debug)]
pub struct Fixture {
    folder: PathBuf,
    bytes: Vec<u8>,
}

impl Fixture {
    /// The fixture `name` with its `expected.safetensors`; `None`, after saying so, where it is not there.
    ///
    /// # Panics
    /// Where the folder is there and the file is not.
    pub fn open(name: &str) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let shared = std::env::var_os("LIGHTGLM_SHARED").map_or(beside, PathBuf::from);
        let folder = shared.join("fixtures").join(name);
        if !folder.is_dir() {
            println!("skipped: {} is not there", folder.display());
            return None;
        }
        let bytes = fs::read(folder.join("expected.safetensors")).expect("expected.safetensors");
        Some(Self { folder, bytes })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// A tensor's shape.
    ///
    /// # Panics
    /// Where there is none of this name; so do the others.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors().tensor(name).expect(name).shape().to_vec()
    }

    /// Its bytes.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.tensors().tensor(name).expect(name).data().to_vec()
    }

    /// Its numbers, of an `F32`.
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.numbers(name, f32::from_le_bytes)
    }

    /// Its numbers, of an `I64`.
    pub fn i64s(&self, name: &str) -> Vec<i64> {
        self.numbers(name, i64::from_le_bytes)
    }

    /// Its numbers, of an `I16`.
    pub fn i16s(&self, name: &str) -> Vec<i16> {
        self.numbers(name, i16::from_le_bytes)
    }

    fn numbers<T, const N: usize>(&self, name: &str, of: impl Fn([u8; N]) -> T) -> Vec<T> {
        let tensors = self.tensors();
        let (numbers, _) = tensors.tensor(name).expect(name).data().as_chunks::<N>();
        numbers.iter().map(|bytes| of(*bytes)).collect()
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }
}

/// The largest difference, by the largest of what was expected.
///
/// # Panics
/// Where there are not as many numbers.
pub fn relative_difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let differences = actual.iter().zip(expected).map(|(a, e)| (a - e).abs());
    // Not `max`, which passes NaN over.
    let most = differences.fold(0.0, |most, x| if x <= most { most } else { x });
    most / largest.max(f32::MIN_POSITIVE)
}
