//! A checkpoint in memory, and one read back from a file: weight sources for tests.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use half::bf16;
use lightglm_core::{StoredTensor, TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_testkit::SplitMix;
use safetensors::SafeTensors;

/// Tensors by name, with metadata.
#[derive(Clone, Default)]
pub(crate) struct TableSource {
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl TableSource {
    /// Random tensors in bf16.
    pub(crate) fn random(tensors: &[(&str, &[usize])], seed: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let mut tensor = |shape: &[usize]| {
            let elements = shape.iter().product::<usize>();
            let bytes: Vec<u8> = (0..elements)
                .flat_map(|_| bf16::from_f32(random.next_f32()).to_le_bytes())
                .collect();
            StoredTensor { dtype: "BF16".into(), shape: shape.into(), parts: vec![bytes.into()] }
        };
        let tensors = tensors.iter().map(|(name, shape)| (name.to_string(), tensor(shape)));
        Self { tensors: tensors.collect(), metadata: BTreeMap::new() }
    }

    /// What a safetensors file holds, each tensor `shift` bytes off its alignment.
    pub(crate) fn read(file: &Path, shift: usize) -> Self {
        let bytes = std::fs::read(file).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let mut buffer = vec![0; shift];
            buffer.extend_from_slice(view.data());
            let parts = vec![Bytes::from(buffer).slice(shift..)];
            let dtype = view.dtype().to_string();
            (name, StoredTensor { dtype, shape: view.shape().into(), parts })
        };
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Self { tensors: tensors.tensors().into_iter().map(tensor).collect(), metadata }
    }

    fn get(&self, name: &str) -> Result<&StoredTensor, WeightError> {
        let missing = || WeightError::Missing { file: PathBuf::from("table"), name: name.into() };
        self.tensors.get(name).ok_or_else(missing)
    }
}

impl WeightSource for TableSource {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let StoredTensor { dtype, shape, parts } = self.get(name)?.clone();
        let known = [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16];
        match known.into_iter().find(|known| known.name() == dtype) {
            Some(dtype) => Ok(TensorView { dtype, shape, bytes: parts[0].clone() }),
            None => {
                let (file, name) = (PathBuf::from("table"), name.into());
                Err(WeightError::UnsupportedDtype { file, name, dtype })
            }
        }
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        self.get(name).cloned()
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.metadata.get(key).cloned()
    }
}
